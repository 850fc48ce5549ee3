"""What a disk of a new point is built upon, held against what is stored.

Who decided looked earlier, maybe on another machine: a base that is not the disk's last good image
would give a point that misses changes.
"""

from __future__ import annotations

from sendense.errors import Rejected
from sendense.model.decision import Method, Mode
from sendense.model.point import DiskImage, PointState, RecoveryPoint, latest_image
from sendense.repository.protocol import DiskSpec


def base_of(
    spec: DiskSpec, earlier: tuple[RecoveryPoint, ...]
) -> tuple[RecoveryPoint, DiskImage] | None:
    """Give the point and the image that the decision names; none where everything is read.

    :class:`~sendense.errors.Rejected` where nothing can be built upon it.
    """
    decision, target = spec.decision, spec.disk.target
    if (decision.base is None) != (decision.mode is Mode.FULL) or (
        (decision.base is None) != (decision.method is Method.EVERYTHING)
    ):
        raise Rejected(f"the decision for disk {target} contradicts itself")
    if decision.base is None:
        return None
    latest = latest_image(earlier, spec.disk.identity)
    if latest is None or latest[0].id != decision.base:
        raise Rejected(
            f"point {decision.base} does not hold the last image of disk {target}",
            hint="take a full backup of this disk",
        )
    point, image = latest
    if point.state is PointState.DAMAGED:
        raise Rejected(
            f"point {point.id} is damaged and cannot be built upon",
            hint="take a full backup of this disk",
        )
    if spec.size < image.size:
        raise Rejected(f"disk {target} is smaller than in point {point.id}")
    return latest
