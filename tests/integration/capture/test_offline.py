"""Captures of machines that are off: what is read, what is left, and who is never disturbed."""

from __future__ import annotations

import filecmp
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from sendense.capture import images
from sendense.capture.checkpoints import own_names
from sendense.capture.domains import find_domain, machine_from_xml, machine_of
from sendense.capture.domainxml import parse_document
from sendense.capture.journal import JournalEntry
from sendense.capture.offline import OfflineCapture, undo_offline
from sendense.capture.reaper import reap
from sendense.capture.survey import survey_stopped
from sendense.errors import Busy, NotAllowed, Rejected, SourceChanged, Unavailable
from sendense.model.decision import Method, Mode
from sendense.model.plan import CapturePlan
from sendense.model.point import Consistency
from sendense.model.survey import is_own
from sendense.workflows.planning import BackupRequest, plan_backup
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.hypervisor import Hypervisor
from sendense_lab.lab import DiskSpec, Lab
from sendense_lab.pool import MIB
from tests.integration.capture.conftest import Bench

pytestmark = pytest.mark.vm

KIB = 1024


def own_bitmaps(vm: CloudVm, target: str) -> list[str]:
    top = images.image_chain(str(vm.disks[target].path), "qcow2", shared=True)[0]
    return [bitmap.name for bitmap in top.bitmaps if is_own(bitmap.name)]


def incremental(plan: CapturePlan, base: str) -> CapturePlan:
    """The same plan, reading what ``base`` recorded."""
    disks = []
    for item in plan.disks:
        if item.decision.tracked:
            decision = replace(
                item.decision, mode=Mode.INCREMENTAL, method=Method.BITMAP, bitmap=base
            )
            item = replace(item, decision=decision)
        disks.append(item)
    return replace(plan, disks=tuple(disks))


def dirty_bytes(session: OfflineCapture, target: str) -> list[tuple[int, int]]:
    export = next(item for item in session.exports if item.target == target)
    uri = f"nbd+unix:///{export.name}?socket={export.socket}"
    command = ["nbdinfo", "--json", f"--map={export.dirty_context}", uri]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    return [
        (item["offset"], item["length"]) for item in json.loads(answer.stdout) if item["type"] == 1
    ]


def servers_of(session: OfflineCapture) -> list[int]:
    return [pid for export in session.exports for pid in processes_naming(export.socket)]


def processes_naming(word: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if word.encode() in command and b"qemu-nbd" in command:
                found.append(int(entry.name))
    return found


@contextmanager
def claimed(bench: Bench, vm: CloudVm) -> Iterator[JournalEntry]:
    entry = bench.claim(vm)
    try:
        yield entry
    finally:
        entry.release()


@pytest.fixture
def entry(bench: Bench, vm: CloudVm) -> Iterator[JournalEntry]:
    with claimed(bench, vm) as entry:
        yield entry


def committed(bench: Bench, vm: CloudVm, entry: JournalEntry) -> CapturePlan:
    plan = bench.plan(vm)
    with bench.capture(vm, plan, entry) as session:
        session.commit(drop=())
    return plan


def check_for(session: OfflineCapture, seconds: float) -> None:
    """Look again and again for a while."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        session.check()
        time.sleep(0.02)


def wait_for_failure(session: OfflineCapture) -> SourceChanged:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        try:
            session.check()
        except SourceChanged as error:
            return error
        time.sleep(0.005)
    raise AssertionError("nothing was noticed")


def given_up(
    bench: Bench, vm: CloudVm, entry: JournalEntry, touch: Callable[[], object]
) -> SourceChanged:
    """Capture, let ``touch`` happen meanwhile, and give what ended the capture."""
    try:
        with bench.capture(vm, bench.plan(vm), entry) as session:
            session.check()
            touch()
            raise wait_for_failure(session)
    except SourceChanged as error:
        return error


def test_exports_are_what_lies_on_the_disks(
    bench: Bench, vm: CloudVm, entry: JournalEntry, tmp_path: Path
) -> None:
    vm.random_fill("vda", 1 * MIB, 2 * MIB, seed=1)
    vm.random_fill("vdb", 3 * MIB, 1 * MIB, seed=2)
    vm.random_fill("vdc", 0, 1 * MIB, seed=3)
    plan = bench.plan(vm)
    with bench.capture(vm, plan, entry) as session:
        assert [export.target for export in session.exports] == ["vda", "vdb", "vdc"]
        for export in session.exports:
            read = tmp_path / "read.raw"
            uri = f"nbd+unix:///{export.name}?socket={export.socket}"
            subprocess.run(["nbdcopy", uri, str(read)], check=True)
            truth = vm.read_disk(export.target, tmp_path / "truth.raw")
            assert filecmp.cmp(read, truth, shallow=False)
            assert export.size == truth.stat().st_size
            read.unlink()
            truth.unlink()
        session.check()
        assert vm.uuid in session.domain_xml
        assert session.moment.warnings == ()
        sockets = [Path(export.socket) for export in session.exports]
        assert session.commit(drop=()) == ()
    assert own_bitmaps(vm, "vda") == own_bitmaps(vm, "vdb") == [plan.checkpoint]
    assert not any(path.exists() for path in sockets)
    assert not any(processes_naming(str(path)) for path in sockets)
    assert not entry.stale


def test_what_was_written_between_two_captures_is_dirty(
    bench: Bench, vm: CloudVm, host: Hypervisor, entry: JournalEntry
) -> None:
    first = committed(bench, vm, entry)
    vm.write("vdb", 1 * MIB, 64 * KIB)
    vm.start(host)
    vm.write("vdb", 5 * MIB, 64 * KIB)
    vm.destroy()
    second = incremental(bench.plan(vm), first.checkpoint)
    with bench.capture(vm, second, entry) as session:
        assert dirty_bytes(session, "vdb") == [(1 * MIB, 64 * KIB), (5 * MIB, 64 * KIB)]
        assert dirty_bytes(session, "vda") == []
        session.commit(drop=(first.checkpoint,))
    assert own_bitmaps(vm, "vdb") == [second.checkpoint]


def test_a_capture_that_fails_leaves_the_old_bitmap_and_no_new_one(
    bench: Bench, vm: CloudVm, entry: JournalEntry
) -> None:
    first = committed(bench, vm, entry)
    vm.write("vdb", 0, 64 * KIB)
    second = incremental(bench.plan(vm), first.checkpoint)
    sockets: list[str] = []

    def fail() -> None:
        with bench.capture(vm, second, entry) as session:
            sockets.extend(export.socket for export in session.exports)
            raise RuntimeError("reading failed")

    with pytest.raises(RuntimeError, match="reading failed"):
        fail()
    assert own_bitmaps(vm, "vdb") == [first.checkpoint]
    assert not any(Path(path).exists() or processes_naming(path) for path in sockets)
    assert not entry.stale
    with bench.capture(vm, incremental(bench.plan(vm), first.checkpoint), entry) as session:
        assert dirty_bytes(session, "vdb") == [(0, 64 * KIB)]


def test_at_most_so_many_bitmaps_stay_and_foreign_ones_are_not_counted(
    bench: Bench, vm: CloudVm, entry: JournalEntry
) -> None:
    path = str(vm.disks["vdb"].path)
    subprocess.run(["qemu-img", "bitmap", "--add", "-f", "qcow2", path, "theirs"], check=True)
    made = [committed(bench, vm, entry).checkpoint for _ in range(5)]
    assert own_bitmaps(vm, "vdb") == made[-bench.settings.max_bitmaps_per_vm :]
    assert "theirs" in [item.name for item in images.image_chain(path, "qcow2")[0].bitmaps]


def test_a_running_machine_is_busy(
    bench: Bench, vm: CloudVm, host: Hypervisor, entry: JournalEntry
) -> None:
    plan = bench.plan(vm)
    vm.start(host)
    with pytest.raises(Busy, match="runs now"), bench.capture(vm, plan, entry):
        pass
    with pytest.raises(Busy, match="in use"):
        survey_stopped(plan.survey.machine)
    assert own_bitmaps(vm, "vdb") == []
    assert not entry.stale


def test_a_machine_that_runs_where_libvirt_does_not_see_it_is_busy(
    bench: Bench, lab: Lab, vm: CloudVm, entry: JournalEntry
) -> None:
    plan = bench.plan(vm)
    vm.start(lab.add_hypervisor())
    with pytest.raises(Busy, match="in use"), bench.capture(vm, plan, entry):
        pass
    vm.destroy()
    assert own_bitmaps(vm, "vdb") == []


def test_an_image_that_changed_after_its_survey_is_not_read(
    bench: Bench, vm: CloudVm, entry: JournalEntry
) -> None:
    plan = bench.plan(vm)
    subprocess.run(
        ["qemu-img", "resize", "-q", "-f", "qcow2", str(vm.disks["vdb"].path), "32M"], check=True
    )
    with pytest.raises(SourceChanged, match="vdb changed"), bench.capture(vm, plan, entry):
        pass
    assert not entry.stale


def test_the_first_start_succeeds_and_the_capture_gives_way(
    bench: Bench, vm: CloudVm, host: Hypervisor, entry: JournalEntry
) -> None:
    first = committed(bench, vm, entry)
    error = given_up(bench, vm, entry, lambda: vm.start(host))
    assert error.retryable
    assert vm.running
    # The new bitmap is taken back through QEMU by whoever comes next; the old one stays.
    done = reap(entry, is_committed=lambda _facts: False, agent_timeout_s=5)
    assert any("running machine" in line for line in done)
    assert own_names(vm.domain) == (first.checkpoint,)
    assert not entry.stale


def test_a_start_on_another_host_is_noticed_by_the_images(
    bench: Bench, lab: Lab, vm: CloudVm, entry: JournalEntry
) -> None:
    other = lab.add_hypervisor()
    error = given_up(bench, vm, entry, lambda: vm.start(other))
    assert error.data["reason"] == "image-changed"
    with pytest.raises(Busy):
        undo_offline(entry.facts, keep_bitmaps=False)
    vm.destroy()
    assert undo_offline(entry.facts, keep_bitmaps=False)
    assert own_bitmaps(vm, "vdb") == []


def test_a_start_and_stop_between_two_looks_is_noticed(
    bench: Bench, lab: Lab, vm: CloudVm, entry: JournalEntry
) -> None:
    other = lab.add_hypervisor()

    def start_and_stop() -> None:
        vm.start(other)
        vm.destroy()

    assert given_up(bench, vm, entry, start_and_stop).data["reason"] == "image-changed"


@pytest.mark.parametrize("target", ["vda", "vdb", "vdc"])
def test_a_write_by_a_tool_is_noticed(
    bench: Bench, vm: CloudVm, entry: JournalEntry, target: str
) -> None:
    error = given_up(bench, vm, entry, lambda: vm.write(target, 0, 4 * KIB))
    assert str(vm.disks[target].path) in error.message


def test_a_template_that_gets_an_owner_is_no_change(
    bench: Bench, lab: Lab, vm: CloudVm, host: Hypervisor, entry: JournalEntry
) -> None:
    neighbour = lab.create_vm(disks=[])
    with bench.capture(vm, bench.plan(vm), entry) as session:
        neighbour.start(host)
        neighbour.destroy()
        lab.pool.template.path.chmod(0o640)
        time.sleep(0.2)
        session.check()
        session.commit(drop=())


def test_a_server_that_dies_is_noticed(bench: Bench, vm: CloudVm, entry: JournalEntry) -> None:
    with bench.capture(vm, bench.plan(vm), entry) as session:
        os.kill(servers_of(session)[0], signal.SIGKILL)
        with pytest.raises(Unavailable, match="ended by itself"):
            check_for(session, 90)


def test_without_libvirt_it_works_and_says_what_was_not_watched(
    bench: Bench, vm: CloudVm, entry: JournalEntry
) -> None:
    bench.settings = replace(bench.settings, uri="qemu+unix:///system?socket=/nonexistent")
    with bench.capture(vm, bench.plan(vm), entry) as session:
        assert any("could not be asked" in line for line in session.moment.warnings)
        session.commit(drop=())


def test_more_than_crash_consistency_is_a_warning(
    bench: Bench, vm: CloudVm, entry: JournalEntry
) -> None:
    with bench.capture(vm, bench.plan(vm, Consistency.FILESYSTEM), entry) as session:
        assert session.moment.consistency is Consistency.CRASH
        assert any("nothing to freeze" in line for line in session.moment.warnings)
        assert session.moment.frozen_s is None


def test_a_block_device_is_read_and_its_missing_lock_is_told(
    bench: Bench, lab: Lab, tmp_path: Path
) -> None:
    vm = lab.create_vm(disks=[DiskSpec(8 * MIB, format="raw")])
    vm.random_fill("vdb", 0, 1 * MIB, seed=9)
    path = str(vm.disks["vdb"].path)
    device = subprocess.run(
        ["losetup", "-f", "--show", path], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        xml = bench.xml_file(vm)
        domain = parse_document(xml.read_text())
        disk = domain.findall("devices/disk")[1]
        disk.set("type", "block")
        for source in disk.iter("source"):
            source.attrib = {"dev": device}
        xml.write_text(ElementTree.tostring(domain, encoding="unicode"))
        survey = survey_stopped(machine_from_xml(xml))
        plan = plan_backup(survey, (), BackupRequest(consistency=Consistency.CRASH))
        assert survey.disks[1].size == 8 * MIB
        with (
            claimed(bench, vm) as entry,
            OfflineCapture(plan, bench.settings, entry, domain_xml="") as session,
        ):
            assert any("vdb: block devices have no lock" in it for it in session.moment.warnings)
            uri = f"nbd+unix:///vdb?socket={session.exports[1].socket}"
            subprocess.run(["nbdcopy", uri, str(tmp_path / "read.raw")], check=True)
        assert filecmp.cmp(tmp_path / "read.raw", path, shallow=False)
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def test_a_long_socket_path_is_refused_before_anything_happens(
    bench: Bench, vm: CloudVm, entry: JournalEntry, tmp_path: Path
) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    plan = bench.plan(vm)
    bench.settings = replace(bench.settings, socket_dir=str(folder))
    with pytest.raises(Rejected, match="longer than 107"), bench.capture(vm, plan, entry):
        pass
    bench.settings = replace(bench.settings, socket_dir=str(tmp_path / "missing"))
    with pytest.raises(NotAllowed, match="does not exist"), bench.capture(vm, plan, entry):
        pass
    assert not entry.stale


def test_a_defined_machine_gives_its_own_xml(
    bench: Bench, vm: CloudVm, host: Hypervisor, entry: JournalEntry
) -> None:
    connection = host.connect()
    domain = connection.defineXML(bench.xml_file(vm).read_text())
    try:
        machine = machine_of(find_domain(connection, vm.uuid))
        assert machine.persistent
        plan = bench.plan(vm)
        with OfflineCapture(plan, bench.settings, entry) as session:
            assert vm.uuid in session.domain_xml
            domain.create()
            error = wait_for_failure(session)
            assert error.retryable
    finally:
        domain.destroy()
        domain.undefine()
        connection.close()


DOOMED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from sendense import steps
from sendense.capture.domains import machine_from_xml
from sendense.capture.journal import claim
from sendense.capture.offline import OfflineCapture
from sendense.capture.session import HostSettings
from sendense.capture.survey import survey_stopped
from sendense.model.point import Consistency
from sendense.workflows.planning import BackupRequest, plan_backup

step, uri, folder, state, xml = sys.argv[1:]
steps.listen(lambda reached: reached == step and os.kill(os.getpid(), signal.SIGKILL))
settings = HostSettings(uri=uri, socket_dir=folder, state_dir=state)
machine = machine_from_xml(Path(xml))
plan = plan_backup(survey_stopped(machine), (), BackupRequest(consistency=Consistency.CRASH))
entry = claim(Path(state), machine.uuid, operation="test")
with OfflineCapture(plan, settings, entry, domain_xml="") as session:
    session.commit(drop=())
"""


@pytest.mark.parametrize(
    "step",
    ["bitmaps-prepared", "exports-up", "capture-committed", "exports-ended", "superseded-dropped"],
)
def test_killed_at_any_step_nothing_lives_on_and_the_next_run_cleans(
    bench: Bench, vm: CloudVm, step: str
) -> None:
    settings = bench.settings
    command = [
        sys.executable, "-c", DOOMED, step, settings.uri, settings.socket_dir,
        settings.state_dir, str(bench.xml_file(vm)),
    ]  # fmt: skip
    dead = subprocess.run(command, check=False, capture_output=True, text=True, timeout=200)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    was_committed = step in ("capture-committed", "exports-ended", "superseded-dropped")
    with claimed(bench, vm) as entry:
        assert entry.stale
        sockets = [str(path) for path in entry.facts["sockets"]]
        deadline = time.monotonic() + 60
        while any(processes_naming(path) for path in sockets):
            assert time.monotonic() < deadline, "a qemu-nbd outlived its maker"
            time.sleep(0.01)
        reap(entry, is_committed=lambda _facts: False, agent_timeout_s=5)
        assert not entry.stale
        assert not any(Path(path).exists() for path in sockets)
    assert len(own_bitmaps(vm, "vdb")) == (1 if was_committed else 0)
