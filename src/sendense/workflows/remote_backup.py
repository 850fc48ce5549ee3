"""Backup of a machine on a host that an agent speaks for, by a run that may die at any line.

Each try has an id of its own on the agent, and is remembered before it begins.  Whoever comes
after a try that died settles it first::

    its point is in the repository -> the agent is told so, superseded checkpoints go: it succeeded
    it is not                      -> the agent takes it back; a new try begins

So a job that is resumed makes no second point, and leaves no guest with a job or a checkpoint of a
point that does not exist.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from sendense.errors import NotFound, SendenseError
from sendense.fleet.agent_client import AgentClient
from sendense.fleet.remote_host import CaptureTerms, RemoteHost
from sendense.model.plan import CapturePlan
from sendense.model.point import Consistency, RecoveryPoint
from sendense.model.progress import ProgressListener, silent
from sendense.model.ticket import CaptureOrder
from sendense.repository.protocol import Repository
from sendense.settings import Settings
from sendense.workflows.backup import Backup, BackupResult
from sendense.workflows.planning import BackupRequest, superseded

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attempt:
    """One try, as it is remembered before it begins."""

    work: str
    """Id of the capture on the agent."""
    machine: str
    point: str


@dataclass(frozen=True)
class RemoteBackupOptions:
    """How it is carried out."""

    terms: CaptureTerms
    remember: Callable[[Attempt], None] = lambda attempt: None
    """Makes an attempt durable; called before the agent begins it."""
    listener: ProgressListener = silent
    domain_xml: str | None = None
    """Of a machine that is off, and that its host's libvirt has forgotten, as CloudStack's are;
    where libvirt knows it after all, what libvirt knows counts."""
    attachments: Mapping[str, bytes] = field(default_factory=dict)
    """Stored with the point beside those of the capture."""
    warnings: tuple[str, ...] = ()
    """Stored with it as well: what was odd before the capture began."""


def back_up_remotely(
    client: AgentClient,
    machine: str,
    repository: Repository,
    settings: Settings,
    request: BackupRequest,
    options: RemoteBackupOptions,
) -> BackupResult:
    """Back one machine up; raises where no point was made, and has everything taken back."""

    def planned(plan: CapturePlan) -> None:
        options.remember(Attempt(options.terms.id, machine, plan.point_id))

    terms = replace(options.terms, planned=planned)
    host = RemoteHost(client, terms, domain_xml=options.domain_xml)
    found = host.machine(machine)
    backup = Backup(
        host,
        repository,
        settings,
        request,
        attachments=options.attachments,
        warnings=options.warnings,
    )
    return backup.run(found, listener=options.listener)


def settle(client: AgentClient, repository: Repository, attempt: Attempt) -> RecoveryPoint | None:
    """Bring a try that died to its end; gives its point where that was stored.

    An agent that cannot be told learns it from the next ticket for the machine.
    """
    stored = _stored(repository, attempt.point)
    order = CaptureOrder(attempt.machine, attempt.point, (), Consistency.CRASH)
    work = client.capture(order, id=attempt.work)
    try:
        if stored is None:
            work.abort()
        else:
            work.commit(superseded(repository.points(attempt.machine)))
    except NotFound:
        log.info("the agent on %s never began %s", client.address.name, attempt.work)
    except SendenseError as error:
        log.warning(
            "the agent on %s was not told how %s ended: %s",
            client.address.name, attempt.work, error,
        )  # fmt: skip
    return stored


def _stored(repository: Repository, point: str) -> RecoveryPoint | None:
    try:
        return repository.point(point)
    except NotFound:
        return None
