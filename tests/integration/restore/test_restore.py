"""Restoring for real: to new files, to devices, in place; and what is left when it fails."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from sendense import steps
from sendense.errors import Busy, Cancelled, Damaged, OutOfSpace, Rejected
from sendense.model.machine import PowerState
from sendense.targets import newfile
from sendense.targets.domainxml import Identity
from sendense.targets.marks import half_restored
from sendense.transfer.throttle import Throttle
from sendense.workflows.restore import (
    InPlace,
    RestoreOptions,
    ToDevices,
    ToFolder,
    plan_restore,
    run_restore,
)
from tests.integration.restore.stage import SIZE, Stage, content
from tests.integration.targets.conftest import loop_device, small_storage  # noqa: F401
from tests.integration.transfer.servers import MIB, run, server
from tests.support.builders import a_disk, a_machine


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path).build()


# --- to new files ---


@pytest.mark.parametrize("image_format", [None, "qcow2", "raw"])
@pytest.mark.parametrize("read_back", [False, True])
def test_new_files_hold_the_disks(stage, tmp_path, image_format, read_back):
    destination = ToFolder(tmp_path / "new", image_format=image_format)
    result = stage.restore_to(None, destination, read_back=read_back)
    for done, wanted in zip(result.disks, stage.contents, strict=True):
        assert content(Path(done.path), Path(done.path).suffix[1:]) == wanted
        assert done.data_bytes + done.zero_bytes == len(wanted)
        assert done.read_back is read_back
    names = {path.name for path in (tmp_path / "new").iterdir()}
    formats = [image_format or "qcow2", image_format or "raw"]
    assert names == {f"vda.{formats[0]}", f"vdb.{formats[1]}", "nvram.fd", "domain.xml"}


def test_the_domain_xml_points_to_the_new_files(stage, tmp_path):
    result = stage.restore_to(tmp_path / "new", identity=Identity(name="copy"))
    text = (tmp_path / "new/domain.xml").read_text()
    assert text == result.domain.xml
    for place in ("vda.qcow2", "vdb.raw", "nvram.fd"):
        assert str(tmp_path / "new" / place) in text
    assert "<name>copy</name>" in text


def test_files_that_exist_are_kept_and_nothing_else_is_written(stage, tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new/domain.xml").write_text("mine")
    with pytest.raises(Rejected, match="exists already"):
        stage.restore_to(tmp_path / "new")
    assert [path.read_text() for path in (tmp_path / "new").iterdir()] == ["mine"]
    stage.restore_to(None, ToFolder(tmp_path / "new", overwrite=True))
    assert "i-2-10-VM" in (tmp_path / "new/domain.xml").read_text()


def test_only_some_disks(stage, tmp_path):
    plan = plan_restore(stage.point, ToFolder(tmp_path / "new"), exclude=("serialvda",))
    result = run_restore(plan, stage.repository)
    assert [item.target for item in result.disks] == ["vdb"]
    assert [item.image.disk.target for item in plan.left_out] == ["vda"]
    assert result.domain is not None
    assert any("vda" in note for note in result.domain.notes)


def test_damage_leaves_no_file(stage, tmp_path):
    stage.repository.disks["serial:serialvdb"].damaged_at = MIB
    with pytest.raises(Damaged):
        stage.restore_to(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_no_space_leaves_no_file(stage, small_storage):  # noqa: F811
    stage.repository.disks["serial:serialvdb"].content = bytes(range(256)) * (4096 * 16)
    with pytest.raises(OutOfSpace):
        stage.restore_to(small_storage / "new")
    assert list((small_storage / "new").iterdir()) == []


def test_a_stop_is_heard(stage, tmp_path):
    def check():
        raise Cancelled("enough")

    plan = plan_restore(stage.point, ToFolder(tmp_path / "new"))
    slow = RestoreOptions(throttle=Throttle(MIB))
    with pytest.raises(Cancelled):
        run_restore(plan, stage.repository, options=slow, check=check)
    assert list((tmp_path / "new").iterdir()) == []


def test_the_machine_is_started_last(stage, tmp_path):
    started = []

    class Starter:
        def start(self, domain):
            assert (tmp_path / "new/domain.xml").exists()
            started.append(domain.name)

    plan = plan_restore(stage.point, ToFolder(tmp_path / "new"))
    assert run_restore(plan, stage.repository, starter=Starter()).started
    assert started == ["i-2-10-VM"]


def test_progress_ends_with_all_of_each_disk(stage, tmp_path):
    last = {}

    def listen(progress):
        last[progress.subject] = progress

    plan = plan_restore(stage.point, ToFolder(tmp_path / "new"))
    run_restore(plan, stage.repository, listener=listen)
    assert {name: (item.done, item.total) for name, item in last.items()} == {
        "vda": (SIZE, SIZE),
        "vdb": (SIZE + 512, SIZE + 512),
    }


# --- to devices ---


def test_a_device_holds_the_disk(stage, loop_device):  # noqa: F811
    device, _ = loop_device
    with pytest.raises(Rejected, match="the disk has"):
        plan_restore(stage.point, ToDevices({"vdb": device}))
    plan = plan_restore(stage.point, ToDevices({"vdb": device}, allow_larger=True))
    options = RestoreOptions(state_dir=stage.state_dir, read_back=True)
    result = run_restore(plan, stage.repository, options=options)
    assert Path(device).read_bytes() == stage.contents[1] + bytes(16 * MIB - SIZE - 512)
    assert result.domain is not None
    assert f'dev="{device}"' in result.domain.xml
    assert half_restored(stage.state_dir) == ()


def test_a_file_is_no_device(stage):
    with pytest.raises(Rejected, match="no block device"):
        plan_restore(stage.point, ToDevices({"vda": str(stage.images[1])}))


def test_a_device_that_a_machine_runs_on_is_busy(stage, tmp_path, loop_device):  # noqa: F811
    device, _ = loop_device
    other_name = tmp_path / "volume"
    other_name.symlink_to(device)
    disk = a_disk("vdc", path=str(other_name), format="raw")
    running = a_machine(disk, name="web", power=PowerState.RUNNING)
    wanted = ToDevices({"vdb": device}, allow_larger=True, machines=(running,))
    with pytest.raises(Busy, match="disk vdc of web"):
        plan_restore(stage.point, wanted)
    off = replace(running, power=PowerState.STOPPED)
    plan_restore(stage.point, replace(wanted, machines=(off,)))


# --- in place ---


@pytest.mark.parametrize("read_back", [False, True])
def test_in_place(stage, read_back):
    result = stage.restore(read_back=read_back)
    assert stage.now() == stage.contents
    assert [Path(item.path) for item in result.disks] == stage.images
    assert (stage.folder / "nvram").read_bytes() == b"variables"
    assert half_restored(stage.state_dir) == ()
    assert not (stage.folder / "domain.xml").exists()


def test_disks_that_changed_their_places_are_found(stage):
    first, second = stage.machine.disks
    swapped = (replace(second, target="vda"), replace(first, target="vdb"))
    plan = plan_restore(stage.point, InPlace(replace(stage.machine, disks=swapped)))
    run_restore(plan, stage.repository, options=RestoreOptions(state_dir=stage.state_dir))
    assert stage.now() == stage.contents


def test_our_bitmaps_go_and_foreign_ones_stay(stage):
    for name in ("sendense-p1", "sendense-p2", "foreign"):
        run("qemu-img", "bitmap", "--add", stage.images[0], name)
    plan = plan_restore(stage.point, InPlace(stage.machine))
    assert plan.disks[0].destination.stale_bitmaps == ("sendense-p1", "sendense-p2")
    run_restore(plan, stage.repository, options=RestoreOptions(state_dir=stage.state_dir))
    listing = run("qemu-img", "info", stage.images[0])
    assert "sendense-" not in listing
    assert "foreign" in listing
    assert stage.now() == stage.contents


def test_a_machine_that_runs_is_refused(stage):
    running = replace(stage.machine, power=PowerState.RUNNING)
    with pytest.raises(Rejected, match="running"):
        plan_restore(stage.point, InPlace(running))


@contextmanager
def running_guest(image, image_format):
    """Hold an image as a running machine does; qemu-nbd would share a raw one with others."""
    socket = image.with_suffix(".qmp")
    command = [
        "qemu-system-x86_64", "-S", "-display", "none", "-nodefaults", "-machine", "accel=tcg",
        "-drive", f"file={image},format={image_format},if=virtio",
        "-qmp", f"unix:{socket},server=on,wait=off",
    ]  # fmt: skip
    with server(command, socket):
        wait_until_locked(image)
        yield


def wait_until_locked(image):
    """Wait until QEMU has opened its disks."""
    deadline = time.monotonic() + 90
    device = image.stat()
    wanted = f":{device.st_ino} "
    while wanted not in Path("/proc/locks").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [0, 1])
def test_an_image_in_use_is_busy_and_all_are_untouched(stage, number):
    before = stage.now()
    plan = plan_restore(stage.point, InPlace(stage.machine))
    options = RestoreOptions(state_dir=stage.state_dir)
    with running_guest(stage.images[number], stage.disks[number].format):
        if number == 0:
            # qemu-img asks for no lock on a raw image, so there it is the writing that shows it.
            with pytest.raises(Busy):
                plan_restore(stage.point, InPlace(stage.machine))
        with pytest.raises(Busy):
            run_restore(plan, stage.repository, options=options)
    assert stage.now() == before
    assert half_restored(stage.state_dir) == ()


def test_a_machine_cannot_start_on_disks_that_are_being_restored(stage):
    seen = []

    def try_to_start(step):
        if step == "restore-marked":
            for disk in stage.disks:
                # qemu-img asks for the locks of a format alone; a machine asks for all of them.
                command = [
                    "qemu-system-x86_64", "-S", "-display", "none", "-nodefaults", "-machine",
                    "accel=tcg", "-drive", f"file={disk.path},format={disk.format},if=virtio",
                ]  # fmt: skip
                seen.append(subprocess.run(command, check=False, capture_output=True, timeout=120))

    steps.listen(try_to_start)
    try:
        stage.restore()
    finally:
        steps.unlisten()
    assert len(seen) == 2
    assert all(b"lock" in found.stderr and found.returncode == 1 for found in seen)


def test_a_disk_without_its_image_is_named(stage):
    stage.images[1].unlink()
    with pytest.raises(Rejected, match="vdb"):
        plan_restore(stage.point, InPlace(stage.machine))
    gone = a_disk("vdz", path="/nowhere/vdz")
    machine = replace(stage.machine, disks=(*stage.machine.disks, gone))
    plan = plan_restore(stage.point, InPlace(machine), include=("vda",))
    assert [item.destination.path for item in plan.disks] == [str(stage.images[0])]


def test_damage_leaves_a_mark_until_a_restore_completes(stage):
    stage.repository.disks["serial:serialvdb"].damaged_at = MIB
    with pytest.raises(Damaged):
        stage.restore()
    states = {Path(item.path).name: item.state for item in half_restored(stage.state_dir)}
    assert states == {"vda.qcow2": "written", "vdb.raw": "writing"}
    stage.repository.disks["serial:serialvdb"].damaged_at = None
    stage.restore()
    assert half_restored(stage.state_dir) == ()
    assert stage.now() == stage.contents


@pytest.mark.parametrize(("raised", "seen"), [(KeyboardInterrupt, Cancelled), (Busy, Busy)])
def test_whoever_breaks_it_off_hears_that_the_disks_are_half_restored(stage, raised, seen):
    def break_off(step):
        if step == "disk-restored":
            raise raised("enough")

    steps.listen(break_off)
    try:
        with pytest.raises(seen) as caught:
            stage.restore(again="sendense restore p1 --in-place")
    finally:
        steps.unlisten()
    assert "half restored" in (caught.value.hint or "")
    assert "sendense restore p1 --in-place" in (caught.value.hint or "")
    marks = half_restored(stage.state_dir)
    assert {item.again for item in marks} == {"sendense restore p1 --in-place"}


@pytest.mark.parametrize("content", ["{", "[]", '{"path": "/x"}', '{"since": 1, "other": 2}'])
def test_a_mark_that_cannot_be_read_is_still_one(stage, content):
    (stage.state_dir / "restores").mkdir(parents=True)
    (stage.state_dir / "restores/0.json").write_text(content)
    assert [item.state for item in half_restored(stage.state_dir)] == ["unknown"]


def test_a_directory_that_is_a_file_is_refused(stage):
    with pytest.raises(Rejected, match="no directory"):
        stage.restore_to(stage.images[0])


def test_storage_that_forgets_is_found_by_reading_back(stage, monkeypatch):
    def forgetful(descriptor, data, offset):
        if offset != MIB:
            honest(descriptor, data, offset)

    honest = newfile.write_all
    content = bytearray(stage.contents[1])
    content[MIB : MIB + 65536] = b"x" * 65536
    stage.repository.disks["serial:serialvdb"].content = bytes(content)
    monkeypatch.setattr(newfile, "write_all", forgetful)
    with pytest.raises(Damaged, match="reads back differently") as caught:
        stage.restore_to(stage.folder / "new", read_back=True)
    assert caught.value.data["offset"] == MIB
    assert list((stage.folder / "new").iterdir()) == []


# --- killed ---


def killed(stage, kind, step, times=1):
    """Restore in a process that is killed at a step."""
    program = [
        sys.executable, "-m", "tests.integration.restore.stage", stage.folder, kind, step, times,
    ]  # fmt: skip
    ended = subprocess.run(
        [str(word) for word in program], check=False, cwd=Path(__file__).parents[3]
    )
    assert ended.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("step", "times", "states"),
    [
        ("restore-marked", 1, {"waiting"}),
        ("disk-restored", 1, {"written", "waiting"}),
        ("disk-restored", 2, {"written"}),
    ],
)
def test_killed_in_place_leaves_marks_and_no_lock(stage, step, times, states):
    killed(stage, "in-place", step, times)
    assert {item.state for item in half_restored(stage.state_dir)} == states
    assert {item.point for item in half_restored(stage.state_dir)} == {"p1"}
    stage.restore()
    assert half_restored(stage.state_dir) == ()
    assert stage.now() == stage.contents


@pytest.mark.parametrize(
    ("step", "times", "left"),
    [
        ("disk-restored", 1, [".vda.qcow2.sendense-part"]),
        ("disk-restored", 2, [".vda.qcow2.sendense-part", ".vdb.raw.sendense-part"]),
    ],
)
def test_killed_with_new_files_leaves_parts_that_the_next_sweeps(stage, step, times, left):
    killed(stage, "new-files", step, times)
    folder = stage.folder / "new"
    assert sorted(path.name for path in folder.iterdir()) == left
    stage.restore_to(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "domain.xml", "nvram.fd", "vda.qcow2", "vdb.raw",
    ]  # fmt: skip


def test_killed_between_names_the_domain_xml_is_missing(stage):
    killed(stage, "new-files", "disk-published", 1)
    folder = stage.folder / "new"
    assert (folder / "vda.qcow2").exists()
    assert not (folder / "domain.xml").exists()
    stage.restore_to(None, ToFolder(folder, overwrite=True))
    assert content(folder / "vda.qcow2", "qcow2") == stage.contents[0]
