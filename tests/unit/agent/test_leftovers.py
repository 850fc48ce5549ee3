"""What the agent does at its start with the records of works that died."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from sendense import clock
from sendense.agent.counting import PlainMetrics
from sendense.agent.faces import NoGate
from sendense.agent.ledger import Intent, Ledger, NewMachine, Record
from sendense.agent.leftovers import close_orphans
from sendense.agent.settings import AgentSettings
from sendense.agent.work import Means
from sendense.capture.host import Host
from sendense.capture.journal import claim
from sendense.model.agent_status import WorkState
from sendense.model.ticket import Action

MACHINE = "6f1e1f0e-5a37-4d2c-9a53-2f0f5a0c1d11"


@pytest.fixture
def means(tmp_path: Path) -> Means:
    """Give a host with an empty state directory; its gate and its libvirt are never asked."""
    run = tmp_path / "run"
    run.mkdir()
    settings = replace(AgentSettings("h1"), state_dir=tmp_path / "state", socket_dir=run)
    ledger = Ledger(settings.state_dir / "agent")
    return Means(lambda: settings, Host(settings.host()), ledger, NoGate(), PlainMetrics())


def record(name: str, action: Action, state: WorkState = WorkState.READY) -> Record:
    return Record(name, action, clock.now() + timedelta(hours=1), state, machine=MACHINE)


def state_of(means: Means, name: str) -> WorkState:
    found = means.ledger.get(name)
    assert found is not None
    return found.state


def test_only_the_works_of_the_dead_agent_are_ended(means: Means, tmp_path: Path) -> None:
    dead, live = tmp_path / "dead.part", tmp_path / "live.part"
    dead.touch()
    means.ledger.put(replace(record("dead", Action.RESTORE), parts=(str(dead),)))
    orphans = means.ledger.open_ids()
    # The first sweep is slow; meanwhile the API takes a restore and a capture.
    live.touch()
    socket = means.settings().socket_dir / "live-vda.sock"
    socket.touch()
    means.ledger.put(replace(record("live", Action.RESTORE), parts=(str(live),)))
    means.ledger.put(record("capture", Action.CAPTURE))
    assert close_orphans(means, orphans) == ()
    assert state_of(means, "dead") is WorkState.FAILED
    assert not dead.exists()
    assert state_of(means, "live") is WorkState.READY
    assert state_of(means, "capture") is WorkState.READY
    assert live.exists()
    assert socket.exists()


def test_work_on_a_machine_that_somebody_holds_is_looked_at_again(means: Means) -> None:
    aborted = replace(record("aborted", Action.CAPTURE), intent=Intent.ABORT)
    means.ledger.put(aborted)
    holder = claim(means.settings().state_dir, MACHINE, operation="another run")
    left = close_orphans(means, means.ledger.open_ids())
    # What the holder has in the journal may be this very work.
    assert left == ("aborted",)
    assert state_of(means, "aborted") is WorkState.READY
    holder.release()
    assert close_orphans(means, left) == ()
    assert state_of(means, "aborted") is WorkState.ABORTED


def test_work_that_ended_meanwhile_stays_as_it_ended(means: Means) -> None:
    means.ledger.put(record("late", Action.CAPTURE))
    orphans = means.ledger.open_ids()
    means.ledger.put(record("late", Action.CAPTURE, WorkState.COMMITTED))
    assert close_orphans(means, (*orphans, "unknown")) == ()
    assert state_of(means, "late") is WorkState.COMMITTED


XML = f"""<domain type='test'><name>web1</name><uuid>{MACHINE}</uuid><memory>1024</memory>
<os><type>hvm</type></os></domain>"""


def complete(name: str, part: Path, makes: NewMachine | None = None) -> Record:
    """Give the record of a restore whose agent died when all its disks were complete."""
    return replace(
        record(name, Action.RESTORE, WorkState.ENDING),
        intent=Intent.COMMIT, parts=(str(part),), defines=makes is not None, makes=makes,
    )  # fmt: skip


def test_a_disk_that_was_between_two_names_gets_its_own(means: Means, tmp_path: Path) -> None:
    part = tmp_path / "disk.part"
    part.write_text("complete")
    (tmp_path / "disk").hardlink_to(part)
    means.ledger.put(complete("r1", part))
    assert close_orphans(means, ("r1",)) == ()
    assert state_of(means, "r1") is WorkState.COMMITTED
    assert (tmp_path / "disk").read_text() == "complete"
    assert not part.exists()


@pytest.mark.parametrize("there", [(), ("disk.part", "disk")])
def test_a_disk_that_is_gone_or_another_s_is_no_success(
    means: Means, tmp_path: Path, there: tuple[str, ...]
) -> None:
    for name in there:
        (tmp_path / name).write_text(name)
    means.ledger.put(complete("r1", tmp_path / "disk.part"))
    assert close_orphans(means, ("r1",)) == ()
    assert state_of(means, "r1") is WorkState.FAILED
    assert sorted(path.name for path in tmp_path.glob("disk*")) == sorted(there)


def test_a_machine_is_defined_when_libvirt_is_back(means: Means, tmp_path: Path) -> None:
    part = tmp_path / "disk.part"
    part.touch()
    makes = NewMachine(XML, define=True, start=False, new=True)
    means.ledger.put(complete("r1", part, makes))
    away = replace(means.host.settings, uri=f"qemu+unix:///system?socket={tmp_path}/none")
    assert close_orphans(replace(means, host=Host(away)), ("r1",)) == ("r1",)
    assert state_of(means, "r1") is WorkState.ENDING
    assert (tmp_path / "disk").exists()
    with Host(replace(away, uri="test:///default")) as host:
        assert close_orphans(replace(means, host=host), ("r1",)) == ()
        assert host.find(MACHINE).name == "web1"
    assert state_of(means, "r1") is WorkState.COMMITTED
    found = means.ledger.get("r1")
    assert found is not None
    assert found.makes is None


def test_what_an_older_agent_left_says_what_is_missing(means: Means, tmp_path: Path) -> None:
    (tmp_path / "disk.part").touch()
    means.ledger.put(replace(complete("r1", tmp_path / "disk.part"), defines=True))
    assert close_orphans(means, ("r1",)) == ()
    assert state_of(means, "r1") is WorkState.FAILED
    assert (tmp_path / "disk").exists()
