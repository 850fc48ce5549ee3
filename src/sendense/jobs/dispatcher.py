"""The dispatcher: submits what is due, gives jobs to workers, takes them back from the dead.

Every server runs one, and one of them has the turn.  Each change that it makes is a transaction
which begins by making sure that it still has it, so two that both believe it cannot pass a limit
together.
Nothing is kept here that is not in the database: a dispatcher that dies is replaced by any other.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice

from sqlalchemy import Connection

from sendense import clock
from sendense.catalog.catalog import Catalog
from sendense.catalog.runs import place, running, waiting
from sendense.errors import Conflict, SendenseError
from sendense.jobs import durable
from sendense.jobs.durable import Mailboxes
from sendense.jobs.rescuing import Rescuer
from sendense.jobs.scheduling import Timetables, due_rounds, submit_round
from sendense.jobs.settings import JobSettings
from sendense.jobs.watching import Watch
from sendense.model.admission import Limits, Load, Placement, admit
from sendense.model.running import Run, Worker
from sendense.steps import reached

_LOG = logging.getLogger(__name__)
_TURN = "dispatcher"
_HOST_LIMITS_S = 30.0
_TIDY_S = 600.0
_AT_ONCE = 50
_KEEP_WORKFLOWS = timedelta(days=1)


class Dispatcher:
    """One dispatcher; it acts only while it has the turn."""

    def __init__(
        self, catalog: Catalog, mailboxes: Mailboxes, settings: JobSettings, name: str
    ) -> None:
        """Use a catalogue; ``name`` is this dispatcher's alone."""
        self.name = name
        self._catalog = catalog
        self._mailboxes = mailboxes
        self._settings = settings
        self._limits = settings.limits
        self._timetables = Timetables(catalog)
        self._rescuer = Rescuer(catalog, mailboxes, settings, self._act)
        self._turns = Watch()
        self._workers = Watch()
        self._last: dict[str, float] = {}
        self._all_waited = False
        self._wake = threading.Event()

    def run(self, stop: threading.Event) -> None:
        """Go on until it is stopped."""
        while not stop.is_set():
            try:
                self.tick()
            except Conflict as error:
                _LOG.info("%s", error)
            except SendenseError as error:
                _LOG.warning("the dispatcher waits: %s", error)
            except Exception:  # noqa: BLE001 - without it nothing would run any more
                _LOG.exception("the dispatcher stumbled; it goes on")
            self._wake.wait(self._settings.poll_s)
            self._wake.clear()
        with suppress(SendenseError):  # the next one waits for its patience then
            self._catalog.turns.give_up(_TURN, self.name)

    def wake(self) -> None:
        """Look at once: something was submitted, or has ended."""
        self._wake.set()

    def tick(self) -> bool:
        """Do once what is to be done; false where another has the turn."""
        if not self._has_turn():
            return False
        now = clock.now()
        if self._time_for("schedule", self._settings.schedule_s):
            self.schedule(now)
        workers, runs = self._catalog.workers.list(), self._catalog.runs.list()
        still = self._workers.look(
            [(worker.name, (worker.incarnation, worker.beat)) for worker in workers]
        )
        alive = [each for each in workers if still[each.name] < self._settings.lease_s]
        for dead in set(workers) - set(alive):
            _LOG.warning("the worker %s is dead", dead.name)
            self._catalog.workers.leave(dead.name, dead.incarnation)
        # During an upgrade there may be workers of another release, with other steps.
        able = [each for each in alive if each.flows == durable.WORKFLOW_VERSION]
        free = _free_slots(able, runs)
        self._rescuer.rescue(alive, runs, free, now)
        self._place(alive, free, now)
        if self._time_for("tidy", _TIDY_S):
            self._tidy(now)
        return True

    def schedule(self, now: datetime) -> None:
        """Submit what has come due."""
        self._timetables.refresh()
        due = list(due_rounds(self._timetables, self._catalog.rounds.newest(), now))
        if not due:
            return
        instances = self._catalog.instances.names()
        for policy, run in due:
            with self._act() as connection:
                made = submit_round(connection, policy, run, instances, now)
            reached("jobs.submitted")
            if made is not None:
                level = logging.WARNING if made.missed or made.late else logging.INFO
                _LOG.log(
                    level, "policy %s: %d backups; %s", policy.name, made.submitted, made.reason
                )

    def _tidy(self, now: datetime) -> None:
        """Forget the workflows of yesterday; jobs are forgotten by the server, much later."""
        needed = {run.workflow_id for run in self._catalog.runs.list()}
        self._mailboxes.tidy(now - _KEEP_WORKFLOWS, needed)

    def _place(self, alive: Sequence[Worker], free: dict[str, int], now: datetime) -> None:
        """Give jobs to workers with room, as far as all limits allow."""
        if not any(free.values()) or not self._catalog.runs.any_due(now):
            return
        if self._time_for("hosts", _HOST_LIMITS_S):
            self._limits = self._with_hosts()
        paused = dict.fromkeys(self._catalog.hosts.paused(now), 0)
        limits = replace(self._limits, hosts={**self._limits.hosts, **paused})
        by_name = {worker.name: worker for worker in alive}
        closed = self._timetables.closed(now)
        # Some at a time: the transaction keeps others from writing.
        while self._place_some(limits, by_name, free, closed, now) == _AT_ONCE:
            pass

    def _place_some(
        self,
        limits: Limits,
        alive: Mapping[str, Worker],
        free: dict[str, int],
        closed: Collection[str],
        now: datetime,
    ) -> int:
        if self._all_waited:  # a look first, which keeps nobody from writing
            with self._catalog.database.read() as connection:
                if not self._admitted(connection, limits, free, closed, now):
                    return 0
        with self._act() as connection:
            placements = self._admitted(connection, limits, free, closed, now)
            for job, worker in ((each.job, each.worker) for each in placements):
                free[worker] -= 1
                run = place(connection, job, alive[worker], now)
                if run is not None:  # else it was cancelled this very moment
                    self._mailboxes.post(connection, worker, run.workflow_id, job.kind, job.job_id)
            reached("jobs.placing")
        self._all_waited = not placements
        if placements:
            reached("jobs.placed")
            _LOG.debug("%d jobs given to workers", len(placements))
        return len(placements)

    def _admitted(
        self,
        connection: Connection,
        limits: Limits,
        free: Mapping[str, int],
        closed: Collection[str],
        now: datetime,
    ) -> list[Placement]:
        load = Load(limits, running(connection))
        candidates = waiting(
            connection,
            now,
            closed_policies=closed,
            full_hosts=load.full_hosts(),
            full_repositories=load.full_repositories(),
        )
        return list(islice(admit(load, candidates, free), _AT_ONCE))

    def _has_turn(self) -> bool:
        """Tell whether this dispatcher has the turn; take it from the dead."""
        turn = self._catalog.turns.get(_TURN)
        if turn is not None and turn.holder == self.name:
            if self._time_for("turn", self._settings.turn_s / 4):
                with self._act():
                    pass
            return True
        pulses = [] if turn is None else [(_TURN, (turn.holder, turn.beat))]
        still = self._turns.look(pulses).get(_TURN, 0.0)
        if turn is not None and still < self._settings.turn_s:
            return False
        taken = self._catalog.turns.take(_TURN, self.name, turn)
        if taken:
            _LOG.info("%s dispatches from now on", self.name)
            self._workers = Watch()
            self._rescuer.forget()
        return taken

    def _act(self) -> AbstractContextManager[Connection]:
        self._last["turn"] = clock.monotonic()
        return self._catalog.turns.act(_TURN, self.name)

    def _time_for(self, what: str, every_s: float) -> bool:
        now = clock.monotonic()
        if what in self._last and now - self._last[what] < every_s:
            return False
        self._last[what] = now
        return True

    def _with_hosts(self) -> Limits:
        """Give the limits with those that the agents of hosts name."""
        limits = self._settings.limits
        named = {
            host.id: host.heartbeat.facts.max_concurrent_vms
            for host in self._catalog.hosts.enrolled()
            if host.heartbeat is not None
        }
        return Limits(
            limits.total, limits.per_host, limits.per_repository, {**named, **limits.hosts}
        )


def _free_slots(alive: Sequence[Worker], runs: Sequence[Run]) -> dict[str, int]:
    taken: dict[tuple[str, str], int] = {}
    for run in runs:
        holder = (run.worker, run.incarnation)
        taken[holder] = taken.get(holder, 0) + 1
    return {
        worker.name: max(0, worker.slots - taken.get((worker.name, worker.incarnation), 0))
        for worker in alive
    }
