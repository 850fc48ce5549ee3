"""Hardware virtualisation is believed only after a trial."""

from __future__ import annotations

import pytest

from sendense_lab import LabError, accelerator
from sendense_lab.guest_image import GuestImage


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SENDENSE_LAB_CACHE", str(tmp_path))
    monkeypatch.delenv(accelerator.OVERRIDE, raising=False)
    monkeypatch.setattr(accelerator, "guest_image", lambda: GuestImage(tmp_path, tmp_path))


def test_the_environment_decides(monkeypatch):
    monkeypatch.setenv(accelerator.OVERRIDE, "kvm")
    assert accelerator.domain_type() == "kvm"
    monkeypatch.setenv(accelerator.OVERRIDE, "tcg")
    with pytest.raises(LabError):
        accelerator.domain_type()


def test_a_device_nobody_may_open_needs_no_trial(monkeypatch):
    monkeypatch.setattr("sendense_lab.host_config.kvm_open_to", lambda user: False)
    monkeypatch.setattr(accelerator, "boots_with_kvm", lambda image: pytest.fail("tried"))
    assert accelerator.domain_type() == "qemu"


@pytest.mark.parametrize(("boots", "kind"), [(True, "kvm"), (False, "qemu")])
def test_one_trial_decides_until_the_next_boot(monkeypatch, boots, kind):
    trials = []

    def trial(image):
        trials.append(image)
        return boots

    monkeypatch.setattr("sendense_lab.host_config.kvm_open_to", lambda user: True)
    monkeypatch.setattr(accelerator, "boots_with_kvm", trial)
    assert [accelerator.domain_type() for _ in range(3)] == [kind] * 3
    assert len(trials) == 1
