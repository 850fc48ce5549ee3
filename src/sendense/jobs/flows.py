"""The durable workflow of each kind of job.

Each is a list of steps.  A step that is done is not done again: after a crash the workflow goes on
behind the last one that was remembered.  Taking a job up is no step, for it has to be done by
whoever goes on.

Changing the steps of a workflow needs a new ``WORKFLOW_VERSION`` (:mod:`sendense.jobs.durable`).
"""

from __future__ import annotations

import logging

from dbos import DBOS

from sendense.jobs.durable import step
from sendense.jobs.execution import Execution
from sendense.jobs.handlers import Abandoned

_LOG = logging.getLogger(__name__)

_hands: list[Execution] = []
"""Who carries jobs out in this process.  DBOS finds workflows by their names, once per process, so
they cannot be given it."""


def use(execution: Execution) -> None:
    """Let the workflows of this process be carried out by this."""
    _hands[:] = [execution]


@DBOS.workflow(name="backup", max_recovery_attempts=None)
def backup(job_id: str) -> str:
    """Capture an instance; the point is visible before the job has succeeded."""
    return _carry_out(job_id)


@DBOS.workflow(name="restore", max_recovery_attempts=None)
def restore(job_id: str) -> str:
    """Write a point back."""
    return _carry_out(job_id)


@DBOS.workflow(name="verify", max_recovery_attempts=None)
def verify(job_id: str) -> str:
    """Read points and compare."""
    return _carry_out(job_id)


@DBOS.workflow(name="prune", max_recovery_attempts=None)
def prune(job_id: str) -> str:
    """Remove points; a collection may follow."""
    return _carry_out(job_id)


@DBOS.workflow(name="gc", max_recovery_attempts=None)
def gc(job_id: str) -> str:
    """Remove what no point needs."""
    return _carry_out(job_id)


@DBOS.workflow(name="copy", max_recovery_attempts=None)
def copy(job_id: str) -> str:
    """Copy points."""
    return _carry_out(job_id)


@DBOS.workflow(name="discover", max_recovery_attempts=None)
def discover(job_id: str) -> str:
    """Look at a host."""
    return _carry_out(job_id)


def _carry_out(job_id: str) -> str:
    (hands,) = _hands
    try:
        with hands.take_up(job_id) as held:
            outcome = step(held.job.kind.value, hands.carry_out, held)
            state: str = step("record", hands.record, held, outcome)
            return state
    except Abandoned as error:
        _LOG.info("let go of job %s: %s", job_id, error)
        raise
    except Exception:
        _LOG.exception("job %s broke off; it is brought on later", job_id)
        raise
