"""Verify: check points, all that are named, whatever the first of them turns out to be."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from sendense.errors import SendenseError
from sendense.model.point import RecoveryPoint
from sendense.model.progress import ProgressListener, silent
from sendense.repository.protocol import LostPoint, Repository, Verification, VerifyLevel

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checked:
    """A point, and what its verification found, or why it could not be done."""

    point: RecoveryPoint | LostPoint
    verification: Verification | None
    error: SendenseError | None = None

    @property
    def sound(self) -> bool:
        """Tell whether the point was looked at and is good."""
        return self.verification is not None and self.verification.sound


def verify_points(
    repository: Repository,
    points: Sequence[RecoveryPoint | LostPoint],
    level: VerifyLevel,
    *,
    listener: ProgressListener = silent,
) -> tuple[Checked, ...]:
    """Check each point; one that cannot be read does not keep the others from it."""
    checked = []
    for point in points:
        try:
            found = repository.verify(point.id, level, progress=listener)
        except SendenseError as error:
            log.warning("point %s could not be verified: %s", point.id, error)
            checked.append(Checked(point, None, error))
            continue
        for finding in found.findings:
            log.error("point %s: %s", point.id, finding.message)
        checked.append(Checked(point, found))
    return tuple(checked)
