"""What is left of work whose thread is gone: settled by a verdict, the next capture, or a sweep.

Two memories meet here.  The journal knows what is on the host: job, checkpoint, files.  The
ledger knows what was asked for: whose work it was, whether its exports were ever open, and
what was decided.  From both follows what to do with the leftovers of a dead agent::

    never ready                 nothing can have been read: taken back
    ready                       the point may be stored: parked, both checkpoints stay
    told to commit, or to abort that is carried out
    nobody's (solo mode)        parked: the command line's next run settles it
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Optional

from sendense.agent import firmware
from sendense.agent.ledger import Intent, Record
from sendense.agent.marks import unmark
from sendense.agent.new_disks import publish, whole_of
from sendense.agent.newcomers import make_missing_machine
from sendense.agent.work import Means, agent_error
from sendense.capture.journal import Facts, JournalEntry, claim, stale_machines
from sendense.capture.parking import drop_superseded, is_parked, park_dead
from sendense.capture.reaper import reap
from sendense.errors import Busy, Cancelled, SendenseError, Unavailable
from sendense.model.agent_status import FINAL, CaptureStatus, WorkState
from sendense.model.ticket import Action

log = logging.getLogger(__name__)

_CLAIM_S = 5.0

_NEVER_READY = (WorkState.QUEUED, WorkState.STARTING)


def settle_before(entry: JournalEntry, committed: Iterable[str], means: Means) -> tuple[str, ...]:
    """Settle what is left on a claimed machine, before new work; gives what was done.

    ``committed`` are the points that are known to be stored.
    """
    facts = entry.facts
    # Of a run of the command line only its own repository knows: a checkpoint kept for nothing
    # costs a bitmap, one dropped wrongly a full.
    kept = facts.get("point") in set(committed) or "repository" in facts
    was_parked = is_parked(facts)
    done = reap(
        entry,
        is_committed=lambda _facts: kept,
        agent_timeout_s=means.settings().guest_agent_timeout,
    )
    record = _record_of(facts, means)
    if record is not None and not record.final:
        _close(record, means, kept=kept or bool(facts.get("committed")))
    if was_parked:
        verb = "kept" if kept else "dropped"
        return (*done, f"checkpoint {facts.get('checkpoint')} of a parked capture {verb}")
    return done


def commit_parked(record: Record, drop: tuple[str, ...], means: Means) -> Record:
    """Settle a parked capture whose point is stored."""
    return _decide(replace(record, intent=Intent.COMMIT, drop=drop), means)


def abort_parked(record: Record, means: Means) -> Record:
    """Settle a parked capture whose point is not stored."""
    return _decide(replace(record, intent=Intent.ABORT), means)


def sweep(means: Means) -> tuple[str, ...]:
    """Settle what dead work left on this host; gives the machines where that is still to do."""
    left = []
    for machine in stale_machines(means.settings().state_dir):
        try:
            entry = claim(means.settings().state_dir, machine, operation="repair by the agent")
        except Busy:
            continue  # its holder lives
        try:
            _settle(entry, means)
            if entry.facts and not is_parked(entry.facts):
                left.append(machine)
        except (SendenseError, OSError) as error:
            log.warning("what a run of %s left stays for now: %s", machine, error)
            left.append(machine)
        finally:
            entry.release()
    return tuple(left)


def park_records(means: Means) -> None:
    """Say *parked* of captures that a dead agent had ready.  At the start, before anybody asks.

    What is left of them on the host is ended by :func:`sweep`, which needs libvirt.
    """
    for record in tuple(means.ledger.records()):
        was_open = record.state in (WorkState.READY, WorkState.ENDING)
        if not was_open or record.action is not Action.CAPTURE:
            continue
        with suppress(Busy):  # whoever holds the machine settles what it finds there
            if _is_on_host(record, means):
                means.ledger.put(_with_state(record, WorkState.PARKED))


def close_orphans(means: Means, orphans: Iterable[str]) -> tuple[str, ...]:
    """End the records of work that died without leaving anything on the host.

    ``orphans`` are the works that were open when the agent started: others may live by now.
    Gives those that have to be looked at again: somebody holds their machine, or libvirt is away.
    """
    unknown = []
    for identity in orphans:
        record = means.ledger.get(identity)
        if record is None or record.final:
            continue
        try:
            if not _is_on_host(record, means):
                _close_orphan(record, means)
        except (Busy, Unavailable):
            unknown.append(identity)
    return tuple(unknown)


def _close_orphan(record: Record, means: Means) -> None:
    if record.action is Action.RESTORE:
        _close_restore(record, means)
    elif record.state is WorkState.PARKED:
        return  # settled by somebody else; its owner may still ask
    elif record.intent is Intent.COMMIT:
        _end(record, WorkState.COMMITTED, None, means)
    elif record.intent is Intent.ABORT:
        _end(record, WorkState.ABORTED, None, means)
    else:
        _end(record, WorkState.FAILED, _restarted(), means)


def _close_restore(record: Record, means: Means) -> None:
    """Go on with a restore whose disks were complete; undo any other."""
    settings = means.settings()
    for socket in settings.socket_dir.glob(f"{record.id}-*.sock"):
        socket.unlink(missing_ok=True)  # its servers died with the agent
    parts = [Path(part) for part in record.parts]
    if record.intent is not Intent.COMMIT:
        for part in parts:
            part.unlink(missing_ok=True)
        if record.nvram is not None:
            firmware.fresh_of(Path(record.nvram)).unlink(missing_ok=True)
        _end(record, WorkState.FAILED, _restarted(), means)
        return
    try:
        for part in parts:
            if part.exists() or not whole_of(part).exists():
                publish(part)
        if record.nvram is not None:
            firmware.complete(Path(record.nvram))
    except (SendenseError, OSError) as error:
        log.warning("a restored disk keeps its name %s: %s", parts, error)
        _end(record, WorkState.FAILED, _restarted(), means)
        return
    unmark(settings.state_dir, record.places)
    missed = _make_machine(record, means)
    _end(record, WorkState.FAILED if missed else WorkState.COMMITTED, missed, means)


def _make_machine(record: Record, means: Means) -> Optional[SendenseError]:
    """Define or start the machine of complete disks; gives why that is not possible.

    :class:`Unavailable` where libvirt cannot be reached now: it is tried again.
    """
    if record.makes is None:
        if not record.defines:
            return None
        return Unavailable(  # as an older agent left it
            "the disks are complete, but the agent was restarted before their machine was defined",
            hint="look whether the host knows it, and define or start it by hand",
        )
    _ = means.host.connection
    disks = [str(whole_of(Path(part))) for part in record.parts]
    try:
        make_missing_machine(means.host, record.makes, disks)
    except SendenseError as error:
        _ = means.host.connection  # gone meanwhile: later
        error.message = f"the disks are complete, but: {error.message}"
        return error
    return None


def _is_on_host(record: Record, means: Means) -> bool:
    """Tell whether something of it is on the host; :class:`Busy` where that cannot be known."""
    if record.action is not Action.CAPTURE or record.machine is None:
        return False
    entry = claim(means.settings().state_dir, record.machine, operation="examination")
    try:
        return entry.facts.get("work") == record.id
    finally:
        entry.release()


def _settle(entry: JournalEntry, means: Means) -> None:
    """Do with the leftovers on a claimed machine what both memories say."""
    facts = entry.facts
    record = _record_of(facts, means)
    timeout = means.settings().guest_agent_timeout
    if not facts:
        return
    if facts.get("unreadable") or (facts.get("may_be_frozen") and "checkpoint" not in facts):
        reap(entry, is_committed=lambda _facts: True, agent_timeout_s=timeout)
    elif record is not None and _takes_back(record, facts):
        _take_back(entry, record, means)
    elif record is not None and record.intent is Intent.COMMIT:
        _commit(entry, record, means)
    elif not is_parked(facts):
        park_dead(entry, agent_timeout_s=timeout)
        if record is not None:
            means.ledger.put(_with_state(record, WorkState.PARKED))


def _takes_back(record: Record, facts: Facts) -> bool:
    if facts.get("committed"):
        return False
    if record.state in (WorkState.FAILED, WorkState.ABORTED) or record.intent is Intent.ABORT:
        return True
    return record.state in _NEVER_READY


def _take_back(entry: JournalEntry, record: Record, means: Means) -> None:
    reap(
        entry,
        is_committed=lambda _facts: False,
        agent_timeout_s=means.settings().guest_agent_timeout,
    )
    if record.final:
        return
    if record.intent is Intent.ABORT:
        _end(record, WorkState.ABORTED, None, means)
    else:
        _end(record, WorkState.FAILED, _restarted(), means)


def _commit(entry: JournalEntry, record: Record, means: Means) -> Record:
    settings = means.settings()
    if not is_parked(entry.facts):
        park_dead(entry, agent_timeout_s=settings.guest_agent_timeout)
    most = settings.dirty_bitmap.max_bitmaps_per_vm
    warnings = drop_superseded(entry.facts, record.drop, most=most)
    entry.settle(may_be_frozen=bool(entry.facts.get("may_be_frozen")))
    return _end(record, WorkState.COMMITTED, None, means, warnings)


def _decide(record: Record, means: Means) -> Record:
    if record.machine is None:
        raise SendenseError("the record of this work names no machine")
    means.ledger.put(record)
    entry = claim(
        means.settings().state_dir,
        record.machine,
        operation="settling of a parked capture",
        wait_s=_CLAIM_S,
    )
    try:
        now = means.ledger.get(record.id) or record
        if now.final:
            return now  # by the next capture, while we waited
        if entry.facts.get("work") != record.id:
            # Somebody at this host settled it, and kept the checkpoint.
            committed = record.intent is Intent.COMMIT
            return _end(
                record, WorkState.COMMITTED if committed else WorkState.ABORTED, None, means
            )
        if record.intent is Intent.COMMIT:
            return _commit(entry, record, means)
        _take_back(entry, record, means)
        return means.ledger.get(record.id) or record
    finally:
        entry.release()


def _close(record: Record, means: Means, *, kept: bool) -> None:
    if kept:
        _end(record, WorkState.COMMITTED, None, means)
        return
    gone = Cancelled(
        "the next capture of the machine did not name its point among the stored ones: "
        "it was taken back"
    )
    _end(record, WorkState.FAILED, gone, means)


def _end(
    record: Record,
    state: WorkState,
    error: Optional[SendenseError],
    means: Means,
    warnings: tuple[str, ...] = (),
) -> Record:
    ended = _with_state(record, state, error, warnings)
    means.ledger.put(ended)
    log.info("work %s is %s", record.id, state.value)
    return ended


def _with_state(
    record: Record,
    state: WorkState,
    error: Optional[SendenseError] = None,
    warnings: tuple[str, ...] = (),
) -> Record:
    told = agent_error(error)
    capture, restore = record.capture, record.restore
    if record.action is Action.CAPTURE:
        before = capture or CaptureStatus(record.id, state)
        capture = replace(
            before,
            state=state,
            waiting_for=None,
            error=told,
            warnings=(*before.warnings, *warnings),
        )
    elif restore is not None:
        restore = replace(restore, state=state, waiting_for=None, error=told, exports=())
    # The XML of a machine may hold secrets, and is long.
    makes = None if state in FINAL else record.makes
    return replace(record, state=state, capture=capture, restore=restore, makes=makes)


def _record_of(facts: Facts, means: Means) -> Optional[Record]:
    work = facts.get("work")
    return means.ledger.get(str(work)) if work else None


def _restarted() -> SendenseError:
    return Unavailable("the agent was restarted", hint="begin it again with a new ticket")
