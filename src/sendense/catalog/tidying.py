"""What is forgotten in time: jobs that ended long ago, old audit entries, answers that were kept.

How long they are kept is said by settings of the catalogue, in days: ``jobs.kept_days`` (90) and
``audit.kept_days`` (365), which the history of clouds is kept for too.  Points, policies and the
rest are never forgotten by age.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sendense.catalog.catalog import Catalog
from sendense.errors import NotFound, Rejected

JOBS_DAYS = "jobs.kept_days"
AUDIT_DAYS = "audit.kept_days"
_DEFAULTS = {JOBS_DAYS: 90, AUDIT_DAYS: 365}
_LEAST, _MOST = 32, 36_500
"""How an instance stands is judged by the jobs of the last 31 days."""


@dataclass(frozen=True)
class Tidied:
    """How many entries were forgotten."""

    jobs: int
    audit: int
    rounds: int
    replies: int
    changes: int
    """Of the history of clouds."""


def tidy(catalog: Catalog, now: datetime) -> Tidied:
    """Forget what is old."""
    jobs_before = now - _kept(catalog, JOBS_DAYS)
    audit_before = now - _kept(catalog, AUDIT_DAYS)
    return Tidied(
        jobs=catalog.jobs.forget(jobs_before),
        audit=catalog.audit.forget(audit_before),
        rounds=catalog.rounds.forget(jobs_before),
        replies=catalog.replies.forget(now),
        changes=catalog.cloud_changes.forget(audit_before),
    )


def require_setting(key: str, value: Any) -> None:  # noqa: ANN401 - any JSON
    """Refuse a setting that nothing reads, or a value that would count as not set."""
    if key not in _DEFAULTS:
        raise NotFound(
            f"there is no setting {key}", hint=f"there are {' and '.join(sorted(_DEFAULTS))}"
        )
    if not _is_span(value):
        raise Rejected(
            f"{key} is no number of days from {_LEAST} to {_MOST}",
            hint=f"{_LEAST} at least: how instances stand is judged by the last 31 days",
        )


def _is_span(days: Any) -> bool:  # noqa: ANN401 - any JSON
    return type(days) is int and _LEAST <= days <= _MOST


def _kept(catalog: Catalog, key: str) -> timedelta:
    """Read how long something is kept; what is no number of days counts as not set."""
    try:
        days = catalog.settings.get(key)
    except NotFound:
        days = None
    if not _is_span(days):
        days = _DEFAULTS[key]
    return timedelta(days=days)
