"""The agent's settings: each mistake is told with its line, its key and what would be right."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sendense.agent.reloading import LiveSettings
from sendense.agent.settings import (
    AgentSettings,
    keep_fixed,
    load_secret,
    load_settings,
    needs_restart,
)
from sendense.errors import NotAllowed, NotFound, Rejected

KEY = "ssh-ed25519 " + "A" * 60
FIXED = f"""kvm_agent:
  id: h1
  gateway: {{host: gw.example.org, host_keys: ["{KEY}"], api_port: 20001}}
"""
PRODUCT = """  dirty_bitmap: {granularity: 65536, persistent: true, max_bitmaps_per_vm: 3}
  nbd_export: {block_size: 1048576, max_concurrent_exports: 10, port_range: "10800-10900"}
  performance: {max_concurrent_vms: 10, bandwidth_limit_mbps: 1000, backup_window: "22:00-06:00"}
"""


@pytest.fixture
def load(tmp_path: Path):
    def read(text: str) -> AgentSettings:
        file = tmp_path / "agent.yaml"
        file.write_text(text)
        return load_settings(file)

    return read


def test_the_sections_of_the_product(load):
    settings = load(FIXED + PRODUCT)
    assert str(settings.performance.backup_window) == "22:00-06:00"
    assert len(settings.nbd_export.port_range) == 101
    # What the product names are the defaults, but for the window.
    window = replace(settings.performance, backup_window=None)
    assert replace(settings, performance=window) == load(FIXED)


@pytest.mark.parametrize(
    ("line", "key", "words"),
    [
        ("  lease: 5", "lease", "did you mean lease_s?"),
        ("  zzz: 5", "zzz", "known are id,"),
        ("  lease_s: soon", "lease_s", "'soon' is not a whole number from 5 to 86400 seconds"),
        ("  lease_s: 4", "lease_s", "'4' is not a whole number"),
        ("  lease_s: 0x10", "lease_s", "whole number"),
        ("  lease_s: [5]", "lease_s", "here belongs a whole number"),
        ("  lease_s:", "lease_s", "here belongs a whole number"),
        ("  lease_s: 60\n  lease_s: 61", "lease_s", "is there twice"),
        ("  listen: agent.sock", "listen", "begin it with /"),
        ("  transport: shh", "transport", "did you mean ssh?"),
        ("  pools: /mnt", "pools", "here belongs a list"),
        ("  pools: [/mnt, mnt]", "pools[1]", "begin it with /"),
        ("  scratch_reserve: lots", "scratch_reserve", "such as 64K or 1G"),
        ("  dirty_bitmap: {granularity: 65535}", "dirty_bitmap.granularity", "a power of 2"),
        ("  dirty_bitmap: {persistent: false}", "dirty_bitmap.persistent", "only true"),
        ("  dirty_bitmap: {persistent: 1}", "dirty_bitmap.persistent", "true or false"),
        ("  dirty_bitmap: 5", "dirty_bitmap", "here belongs a section"),
        ("  nbd_export: {port_range: 10800}", "nbd_export.port_range", "10800-10900"),
        ('  nbd_export: {port_range: "80-90"}', "nbd_export.port_range", "above 1023"),
        ('  nbd_export: {port_range: "2000-1999"}', "nbd_export.port_range", "no range"),
        ('  performance: {backup_window: "22-6"}', "performance.backup_window", "22:00-06:00"),
        (
            '  performance: {backup_window: "06:00-06:00"}',
            "performance.backup_window",
            "ends when it begins",
        ),
        ("  performance: {bandwidth_limit_mbps: -1}", "performance.bandwidth_limit_mbps", "0 to"),
        ("  tls: {certificates: /x}", "tls", "address is missing"),
    ],
)
def test_a_mistake_is_told_by_line_and_key(load, line, key, words):
    with pytest.raises(Rejected) as raised:
        load(FIXED + line + "\n")
    said = raised.value.message
    number = 5 if "twice" in words else 4
    assert f"line {number}: kvm_agent.{key}: " in said
    assert words in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1: the file holds no kvm_agent:"),
        ("- a\n", "line 1: the file holds no kvm_agent:"),
        ("kvm-agent:\n  id: x\n", "line 1: kvm-agent: there is no such setting; did you mean kvm"),
        ("kvm_agent:\n  id: [\n", "line 3: "),
        ("kvm_agent:\n\tid: x\n", "line 2: "),
        ("kvm_agent:\n  lease_s: 60\n", "line 2: kvm_agent: id is missing"),
        ("kvm_agent:\n  id: x\n  transport: tls\n", "line 3: kvm_agent.gateway: the transport tls"),
        ("kvm_agent:\n  id: x\n", "kvm_agent.gateway: the transport ssh needs this section"),
        ("kvm_agent:\n  id: 'a b'\n  transport: local\n", "line 2: kvm_agent.id: 'a b'"),
        (FIXED.replace(KEY, "rsa"), "line 3: kvm_agent.gateway.host_keys[0]"),
        ("\x00", "line 1"),
        ("a: &a [*a]\n", "line 1"),
    ],
)
def test_a_file_that_is_no_settings_file(load, text, words):
    with pytest.raises(Rejected) as raised:
        load(text)
    assert words in raised.value.message


def test_all_mistakes_are_told_at_once(load):
    with pytest.raises(Rejected) as raised:
        load(FIXED + "  lease_s: x\n  pools: 3\n")
    assert "line 4" in raised.value.message
    assert "line 5" in raised.value.message


def test_no_file_and_a_file_that_is_too_large(tmp_path):
    with pytest.raises(NotFound):
        load_settings(tmp_path / "none")
    large = tmp_path / "large"
    large.write_text("#" * 300_000)
    with pytest.raises(Rejected, match="larger"):
        load_settings(large)


def test_the_secret_is_for_its_owner_only(load, tmp_path):
    settings = replace(load(FIXED), secret_file=tmp_path / "secret")
    with pytest.raises(NotFound):
        load_secret(settings)
    settings.secret_file.write_text("x" * 40 + "\n")
    settings.secret_file.chmod(0o640)
    with pytest.raises(NotAllowed, match="others"):
        load_secret(settings)
    settings.secret_file.chmod(0o600)
    assert load_secret(settings).reveal() == b"x" * 40
    settings.secret_file.write_text("short")
    with pytest.raises(Rejected, match="shorter"):
        load_secret(settings)


def test_what_cannot_change_live_stays(load):
    old = load(FIXED)
    text = FIXED.replace("id: h1", "id: h2").replace("20001", "20002")
    new = load(text + '  lease_s: 99\n  nbd_export: {port_range: "2000-2001", block_size: 64K}\n')
    assert set(needs_restart(old, new)) == {"id", "gateway", "nbd_export.port_range"}
    kept = keep_fixed(old, new)
    assert (kept.id, kept.gateway, kept.lease_s) == ("h1", old.gateway, 99)
    assert kept.nbd_export.port_range == old.nbd_export.port_range
    assert kept.nbd_export.block_size == 65536
    assert needs_restart(old, kept) == ()


def test_a_wrong_file_keeps_what_is_in_force(tmp_path):
    file = tmp_path / "agent.yaml"
    file.write_text(FIXED)
    live = LiveSettings(file)
    seen: list[AgentSettings] = []
    live.on_change(seen.append)
    assert not live.look()
    file.write_text(FIXED + "  lease_s: no\n")
    assert live.look()
    assert live().lease_s == 120
    (check,) = live.checks(live())
    assert (check.level.value, "line 4" in check.message) == ("warning", True)
    file.unlink()
    live.reload()
    assert live.checks(live())[0].level.value == "warning"
    file.write_text(FIXED + "  lease_s: 77\n")
    assert live.look()
    assert [item.lease_s for item in seen] == [77]
    assert live.checks(live())[0].level.value == "ok"
