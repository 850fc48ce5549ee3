"""AppArmor and SELinux: the lines and labels that are missing, as commands that add them."""

from __future__ import annotations

import subprocess

import pytest

from sendense.capture.confinement import examine_confinement
from sendense.capture.session import HostSettings
from sendense.model.finding import Level

SETTINGS = HostSettings(socket_dir="/run/s", scratch_dir="/var/c")


def test_without_a_security_driver_all_is_well(tmp_path):
    (finding,) = examine_confinement(SETTINGS, ("none", "dac"), root=tmp_path)
    assert finding.level is Level.OK


def test_apparmors_lines_are_told_and_the_command_adds_them(tmp_path):
    (finding,) = examine_confinement(SETTINGS, ("apparmor", "dac"), root=tmp_path)
    assert finding.level is Level.PROBLEM
    command = (finding.fix or "").replace(" /etc/", f" {tmp_path}/etc/")
    command = command.replace("systemctl reload apparmor", "true")
    subprocess.run(["bash", "-euc", command], check=True)
    added = (tmp_path / "etc/apparmor.d/local/abstractions/libvirt-qemu").read_text()
    assert added == "/run/s/*.sock rw,\n/var/c/* rwk,\n"
    (again,) = examine_confinement(SETTINGS, ("apparmor", "dac"), root=tmp_path)
    assert again.level is Level.OK


def test_only_the_missing_lines_are_added(tmp_path):
    path = tmp_path / "etc/apparmor.d/local/abstractions/libvirt-qemu"
    path.parent.mkdir(parents=True)
    path.write_text("# ours\n  /run/s/*.sock rw,\n")
    (finding,) = examine_confinement(SETTINGS, ("apparmor",), root=tmp_path)
    assert "'/run/s/*.sock rw,'" not in (finding.fix or "")
    assert "'/var/c/* rwk,'" in (finding.fix or "")


@pytest.mark.parametrize(("enforce", "level"), [("1", Level.PROBLEM), ("0", Level.WARNING)])
def test_selinuxs_label_is_told(tmp_path, enforce, level):
    switch = tmp_path / "sys/fs/selinux/enforce"
    switch.parent.mkdir(parents=True)
    switch.write_text(enforce)
    first, second = examine_confinement(SETTINGS, ("selinux",), root=tmp_path)
    assert first.level is second.level is level
    assert first.fix == (
        "semanage fcontext -a -t qemu_var_run_t '/run/s(/.*)?' && restorecon -Rv /run/s"
    )
