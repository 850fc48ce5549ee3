"""Carrying out a backup of several machines, and telling of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sendense import clock, log, shield
from sendense.capture.host import Host
from sendense.cli import failures
from sendense.cli.backup_view import Outcome, planned_report, results_report
from sendense.cli.exitcodes import ExitCode, worst
from sendense.cli.output import Report
from sendense.cli.run import Run
from sendense.errors import Cancelled, Rejected, StrictWarning
from sendense.model.machine import Machine
from sendense.model.retention import KeepRules
from sendense.repository.protocol import Repository
from sendense.settings import Settings
from sendense.workflows.backup import Backup
from sendense.workflows.planning import BackupRequest
from sendense.workflows.prune import plan_prune, run_prune
from sendense.workflows.sources import LocalSource


@dataclass(frozen=True)
class BackupOrder:
    """What one call of the command asks for."""

    settings: Settings
    request: BackupRequest
    names: tuple[str, ...] | None
    """None for all machines of the host."""
    xml: Path | None
    keep: KeepRules | None
    """How to prune behind each backup; none for not at all."""


@dataclass(frozen=True)
class _Subject:
    """One machine that is meant, found when its turn comes: it may have stopped by then."""

    label: str
    find: Callable[[], Machine]


@dataclass(frozen=True)
class _Parts:
    """What every backup of the call works with."""

    run: Run
    order: BackupOrder
    host: Host
    repository: Repository

    @property
    def backup(self) -> Backup:
        return Backup(
            LocalSource(self.host, self.order.settings, self._opened),
            self.repository,
            self.order.settings,
            self.order.request,
        )

    def _opened(self, location: str) -> Repository:
        """Give the repository of a dead run, which mostly is the one at hand."""
        own = self.repository.location == location
        return self.repository if own else self.run.open_location(location)

    def subjects(self) -> tuple[_Subject, ...]:
        """List the machines that are meant."""
        names, xml = self.order.names, self.order.xml
        if names is None:
            return tuple(
                _Subject(machine.name, partial(self.host.find, machine.uuid))
                for machine in self.host.machines()
            )
        if xml is not None:
            machine = self._from_xml(xml, names)
            return (_Subject(machine.name, lambda: machine),)
        return tuple(_Subject(name, partial(self.host.find, name)) for name in names)

    def _from_xml(self, xml: Path, names: tuple[str, ...]) -> Machine:
        machine = self.host.from_xml(xml)
        if names and names[0] not in (machine.name, machine.uuid):
            raise Rejected(
                f"{xml} describes {machine.name} ({machine.uuid}), not {names[0]}",
                hint="leave the name out, or give the right file",
            )
        return machine


_Act = Callable[[_Parts, _Subject], Outcome]


def plan_all(run: Run, order: BackupOrder) -> ExitCode:
    """Say what would be done, and why; changes nothing."""
    return _for_each(run, order, _plan_one, planned_report)


def back_up_all(run: Run, order: BackupOrder) -> ExitCode:
    """Back up one machine after the other; the failure of one does not stop the others."""
    return _for_each(run, order, _back_up_one, results_report)


def _for_each(
    run: Run, order: BackupOrder, act: _Act, report: Callable[[Sequence[Outcome]], Report]
) -> ExitCode:
    repository = run.repository()
    with run.host(order.settings) as host:
        parts = _Parts(run, order, host, repository)
        outcomes = _act_on_all(parts, act)
    run.show(report(outcomes))
    return worst(failures.code_of(item.error) for item in outcomes if item.error)


def _act_on_all(parts: _Parts, act: _Act) -> list[Outcome]:
    outcomes: list[Outcome] = []
    cancelled = False
    for subject in parts.subjects():
        if cancelled:
            error = Cancelled("the run was stopped before its turn")
            outcomes.append(Outcome(subject.label, error=error))
            continue
        try:
            with log.context(f"backup {subject.label}"):
                outcome = act(parts, subject)
        except (Exception, KeyboardInterrupt) as caught:  # noqa: BLE001 - told, counted, next one
            outcome = Outcome(subject.label, error=caught)
        cancelled = isinstance(outcome.error, KeyboardInterrupt) or shield.postponed()
        if outcome.error is not None:
            _tell(parts.run, outcome.label, outcome.error)
        outcomes.append(outcome)
    return outcomes


def _tell(run: Run, label: str, error: BaseException) -> None:
    """Say at once that a machine failed: the table comes after the last one."""
    if not run.options.as_json:
        failures.tell(error, run.output, about=label)
    if run.options.verbose >= 2:
        failures.trace(error, run.output)


def _plan_one(parts: _Parts, subject: _Subject) -> Outcome:
    plan = parts.backup.plan(subject.find())
    return Outcome(subject.label, plan=plan)


def _back_up_one(parts: _Parts, subject: _Subject) -> Outcome:
    machine = subject.find()
    with parts.run.progress(f"backup {machine.name}") as listener:
        try:
            result = parts.backup.run(machine, listener=listener)
        except StrictWarning as error:
            point = parts.repository.point(error.data["point"])
            return Outcome(subject.label, point=point, warnings=point.warnings, error=error)
    outcome = Outcome(
        subject.label,
        plan=result.plan,
        point=result.point,
        skipped=result.skipped,
        warnings=result.warnings,
        repaired=result.repaired,
    )
    if parts.order.keep is None or shield.postponed():
        return outcome
    return _prune(parts, machine, outcome, parts.order.keep)


def _prune(parts: _Parts, machine: Machine, outcome: Outcome, rules: KeepRules) -> Outcome:
    """Prune behind a backup; where that fails, the point stays and the call fails."""
    try:
        plan = plan_prune(parts.repository, rules, machine=machine.uuid, now=clock.now())
        with parts.run.progress(f"prune {machine.name}") as listener:
            pruned = run_prune(parts.repository, plan, listener=listener)
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - told, and counted
        return replace(outcome, error=error)
    return replace(outcome, pruned=pruned)
