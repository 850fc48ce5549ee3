"""The real command line on real machines: what an operator types, and what comes back."""

from __future__ import annotations

import filecmp
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sendense_lab.cloud_vm import CloudVm
from sendense_lab.guest_agent import Guest
from sendense_lab.lab import DiskSpec
from tests.vm.site import Site

pytestmark = pytest.mark.vm

MIB = 1 << 20
SENDENSE = Path(sys.executable).with_name("sendense")


class Shell:
    """Types commands with the settings of a site."""

    def __init__(self, site: Site) -> None:
        self.site = site
        settings = site.settings
        self.environment = {
            **os.environ,
            "SENDENSE_URI": settings.uri,
            "SENDENSE_REPOSITORY": site.repository.location,
            "SENDENSE_SOCKET_DIR": str(settings.socket_dir),
            "SENDENSE_SCRATCH_DIR": str(settings.scratch_dir),
            "SENDENSE_SCRATCH_RESERVE": "1M",
            "SENDENSE_STATE_DIR": str(settings.state_dir),
            "SENDENSE_CONSISTENCY": "crash",
        }

    def run(self, *words: object) -> subprocess.CompletedProcess[str]:
        """Run one command, whatever comes of it."""
        return subprocess.run(
            [str(SENDENSE), *(str(word) for word in words)],
            check=False,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=240,
        )

    def json(self, *words: object) -> Any:
        """Run one command that must succeed; gives its document."""
        result = self.run(*words, "--json")
        assert result.returncode == 0, result.stderr + result.stdout
        return json.loads(result.stdout)

    def refused(self, code: int, *words: object) -> Any:
        """Run one command that must be refused with an exit code; gives its error."""
        result = self.run(*words, "--json")
        assert result.returncode == code, result.stderr + result.stdout
        return json.loads(result.stdout)["error"]

    def begin(self, *words: object) -> subprocess.Popen[str]:
        """Start a command and go on."""
        return subprocess.Popen(
            [str(SENDENSE), *(str(word) for word in words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        )


@pytest.fixture(scope="module")
def shell(site: Site) -> Shell:
    return Shell(site)


@pytest.fixture(scope="module")
def vm(site: Site) -> CloudVm:
    vm = site.lab.create_vm(disks=[DiskSpec(size=48 * MIB), DiskSpec(size=16 * MIB, format="raw")])
    vm.random_fill("vdb", 0, 32 * MIB, 7)
    vm.start(site.hypervisor, paused=False)
    site.backup(vm)
    vm.write("vdb", 1 * MIB, 2 * MIB, 3)
    vm.write_zeroes("vdb", 8 * MIB, 1 * MIB)
    vm.write("vdc", 0, 1 * MIB, 4)
    site.backup(vm)
    return vm


def test_backup_tells_what_it_did(shell: Shell, vm: CloudVm) -> None:
    planned = shell.json("backup", vm.name, "--dry-run")
    assert "sendense-" in json.dumps(planned)
    before = len(shell.json("points", "list", vm.name)["points"])
    shell.json("backup", vm.name)
    points = shell.json("points", "list", vm.name)["points"]
    assert len(points) == before + 1
    assert points[-1]["mode"] == "incremental"
    shell.site.check_clean(vm)


def test_human_output_names_reason_and_savings(shell: Shell, vm: CloudVm) -> None:
    result = shell.run("backup", vm.name)
    assert result.returncode == 0
    for word in ("incremental", "saved", "frozen", "usable"):
        assert word in result.stdout
    assert "error" not in result.stderr.lower()


@pytest.mark.parametrize(
    ("code", "words", "told"),
    [
        (3, ("backup", "i-9-9-VM"), "i-9-9-VM"),
        (3, ("backup", "NAME", "--include", "vdz"), "vdz"),
        (2, ("backup", "NAME", "--granularity", "many"), "size"),
        (2, ("backup",), "machine"),
        (3, ("restore", "0123abcd", "--output", "OUT"), "0123abcd"),
        (3, ("restore", "latest:NAME", "--output", "OUT", "--disk", "vdz"), "vdz"),
        (2, ("restore", "latest:NAME"), "--output"),
        (2, ("restore", "latest:NAME", "--in-place", "--yes"), "run"),
        (3, ("backup", "--xml", "/does/not/exist"), "/does/not/exist"),
        (3, ("verify", "0123abcd"), "0123abcd"),
        (3, ("points", "delete", "0123abcd", "--yes"), "0123abcd"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(
    shell: Shell, vm: CloudVm, tmp_path: Path, code: int, words: tuple[str, ...], told: str
) -> None:
    marks = shell.site.own_marks(vm)
    points = shell.site.repository.points()
    filled = [word.replace("NAME", vm.name).replace("OUT", str(tmp_path / "o")) for word in words]
    error = shell.refused(code, *filled)
    assert told in error["message"] + str(error["hint"])
    assert shell.site.own_marks(vm) == marks
    assert shell.site.repository.points() == points
    assert list(tmp_path.iterdir()) == []
    shell.site.check_clean(vm)


def test_missing_repository_is_never_made_by_a_backup(
    shell: Shell, vm: CloudVm, tmp_path: Path
) -> None:
    missing = tmp_path / "unmounted"
    error = shell.refused(3, "backup", vm.name, "-r", missing)
    assert "repo init" in error["hint"]
    assert not missing.exists()


def test_wrong_xml_is_refused(shell: Shell, tmp_path: Path) -> None:
    for text in ("<domain", "<!DOCTYPE x><domain/>", "<network/>", "\x00\x01"):
        path = tmp_path / "wrong.xml"
        path.write_text(text)
        shell.refused(2, "backup", "--xml", path)


def test_unreachable_libvirt_is_unavailable(shell: Shell, vm: CloudVm) -> None:
    error = shell.refused(5, "backup", vm.name, "--uri", "qemu+unix:///system?socket=/nowhere")
    assert error["retryable"]


def test_restore_to_new_files_of_both_formats(shell: Shell, vm: CloudVm, tmp_path: Path) -> None:
    point = shell.site.repository.points(vm.uuid)[-1]
    for image_format in ("raw", "qcow2"):
        folder = tmp_path / image_format
        shell.json(
            "restore", f"latest:{vm.name}", "--output", folder, "--format", image_format, "--verify"
        )
        for image in point.disks:
            restored = next(folder.glob(f"{image.disk.target}.*"))
            same_as_point(shell.site, point.id, image.disk.identity, restored, image_format)


def same_as_point(site: Site, point: str, identity: str, restored: Path, kind: str) -> None:
    """Compare a restored file with what our reader gives, by qemu-img."""
    truth = site.folder / "truth.raw"
    site.read_disk(site.repository.point(point), identity, truth)
    compare = ["qemu-img", "compare", "-f", kind, "-F", "raw", str(restored), str(truth)]
    result = subprocess.run(compare, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    truth.unlink()


def test_restore_to_a_block_device(shell: Shell, vm: CloudVm, tmp_path: Path) -> None:
    point = shell.site.repository.points(vm.uuid)[-1]
    image = point.disks[1]
    backing = tmp_path / "device.img"
    with backing.open("wb") as file:
        file.write(b"\xff" * image.size)
    with loop_device(backing) as device:
        shell.json(
            "restore", point.id, "--disk", "vdb", "--to", f"vdb={device}", "--verify", "--yes"
        )
        same_as_point(shell.site, point.id, image.disk.identity, Path(device), "raw")


@contextmanager
def loop_device(path: Path) -> Iterator[str]:
    found = subprocess.run(
        ["losetup", "--find", "--show", str(path)], check=True, capture_output=True, text=True
    )
    device = found.stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def test_in_place_restore_brings_the_machine_back(shell: Shell, site: Site) -> None:
    vm = site.lab.create_vm(disks=[DiskSpec(size=32 * MIB), DiskSpec(size=16 * MIB, format="raw")])
    vm.random_fill("vdb", 0, 16 * MIB, 1)
    vm.random_fill("vdc", 0, 8 * MIB, 2)
    vm.start(site.hypervisor)
    wanted = site.backup(vm)
    vm.write("vdb", 0, 8 * MIB, 9)
    vm.write("vda", 0, 8 * MIB, 9)
    vm.discard("vdc", 0, 4 * MIB)
    site.backup(vm)
    vm.destroy()
    xml = site.xml_file(vm)
    shell.json("restore", wanted.id, "--in-place", "--xml", xml, "--yes")
    for target in vm.disks:
        raw = vm.read_disk(target, site.folder / "now.raw")
        assert filecmp.cmp(raw, site.oracle / wanted.id / f"{target}.raw", shallow=False)
        raw.unlink()
    assert site.own_marks(vm) == set()
    vm.start(site.hypervisor)
    after = site.backup(vm)
    assert {image.decision.reason.value for image in after.disks} <= {
        "bitmap-missing",
        "no-bitmap-support",
    }
    site.check_point(after)
    vm.destroy()


def gone_machine(shell: Shell, site: Site) -> str:
    """Back up a machine that libvirt forgets then; gives the point."""
    vm = site.lab.create_vm(disks=[DiskSpec(size=48 * MIB)])
    vm.start(site.hypervisor)
    point = site.backup(vm, oracle=False)
    vm.destroy()
    return point.id


def test_in_place_restore_into_another_machine_is_refused(shell: Shell, site: Site) -> None:
    other = site.lab.create_vm(disks=[DiskSpec(size=48 * MIB)])
    before = other.read_disk("vdb", site.folder / "before.raw")
    point = gone_machine(shell, site)
    shell.refused(2, "restore", point, "--in-place", "--xml", site.xml_file(other), "--yes")
    after = other.read_disk("vdb", site.folder / "after.raw")
    assert filecmp.cmp(before, after, shallow=False)


def test_restored_copy_starts_beside_the_original(shell: Shell, site: Site) -> None:
    vm = site.lab.create_vm(boot="guest", disks=[DiskSpec(size=64 * MIB)])
    vm.start(site.hypervisor)
    vm.guest.wait_ready()
    vm.guest.write_files("vdb", count=4, kib=256, seed=5)
    shell.json("backup", vm.name, "--consistency", "filesystem")
    folder = site.lab.pool.folder / "copy"
    shell.json("restore", f"latest:{vm.name}", "--output", folder, "--name", "copy-1", "--start")
    copy = site.hypervisor.connection.lookupByName("copy-1")
    try:
        assert copy.UUIDString() != vm.uuid
        guest = Guest(lambda: copy)
        guest.wait_ready()
        assert "OK" in guest.verify_files()
    finally:
        copy.destroy()
    vm.destroy()


def test_prune_and_delete_keep_every_other_point_right(shell: Shell, site: Site) -> None:
    vm = site.lab.create_vm(disks=[DiskSpec(size=32 * MIB)])
    vm.start(site.hypervisor)
    for number in range(6):
        vm.write("vdb", number * 3 * MIB, 4 * MIB, number + 1)
        vm.write_zeroes("vdb", number * MIB, 64 << 10)
        site.backup(vm)
    ids = [point.id for point in site.repository.points(vm.uuid)]
    shell.json("points", "delete", ids[2], "--yes")
    shell.json("prune", vm.name, "--keep-last", "3", "--dry-run")
    assert len(site.repository.points(vm.uuid)) == 5
    shell.json("prune", vm.name, "--keep-last", "3")
    assert [point.id for point in site.repository.points(vm.uuid)] == ids[3:]
    site.check_all(vm)
    vm.write("vdb", 0, 1 * MIB, 99)
    last = site.backup(vm)
    assert last.mode.value == "incremental"
    site.check_all(vm)
    assert shell.run("verify", "--machine", vm.name).returncode == 0
    site.check_clean(vm)
    vm.destroy()


def test_damage_is_found_and_the_next_backup_is_a_full(shell: Shell, site: Site) -> None:
    vm = site.lab.create_vm(disks=[DiskSpec(size=16 * MIB)])
    vm.random_fill("vdb", 0, 8 * MIB, 3)
    vm.start(site.hypervisor)
    point = site.backup(vm)
    layer = site.layer(point, "vdb")
    with layer.open("r+b") as file:
        file.seek(layer.stat().st_size - 3 * MIB)
        byte = file.read(1)[0]
        file.seek(-1, 1)
        file.write(bytes([byte ^ 1]))
    result = shell.run("verify", point.id)
    assert result.returncode == 6, result.stdout
    refused = shell.run("restore", point.id, "--output", site.folder / "damaged", "--format", "raw")
    assert refused.returncode == 6
    assert not list((site.folder / "damaged").glob("vdb*"))
    healed = site.backup(vm)
    assert healed.disks[1].decision.reason.value == "base-damaged"
    site.check_point(healed)
    vm.destroy()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_a_backup_within_seconds(
    shell: Shell, site: Site, vm: CloudVm, number: int
) -> None:
    before = site.repository.points(vm.uuid)
    running = shell.begin("backup", vm.name, "--mode", "full", "--bandwidth-limit", "256K")
    deadline = time.monotonic() + 120
    while not list(Path(site.settings.socket_dir).glob("*.sock")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(0.5)
    running.send_signal(number)
    began = time.monotonic()
    _, errors = running.communicate(timeout=120)
    assert time.monotonic() - began < 30
    assert running.returncode == 130, errors
    assert site.repository.points(vm.uuid) == before
    site.check_clean(vm)
