"""A :class:`~sendense.model.point.RecoveryPoint` as a document of JSON values.

It is read strictly: a value of a wrong type is damage, not a guess.  Fields that are
not known here are left aside, so that a later version may add some.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sendense.errors import Damaged
from sendense.model.point import RecoveryPoint
from sendense.repository.names import is_name

_POINT: TypeAdapter[RecoveryPoint] = TypeAdapter(RecoveryPoint)


def to_content(point: RecoveryPoint) -> dict[str, Any]:
    """Give a point as JSON values."""
    content: dict[str, Any] = _POINT.dump_python(point, mode="json")
    return content


def from_content(content: object, *, name: str) -> RecoveryPoint:
    """Give the point that JSON values stand for; ``name`` is for the error."""
    try:
        point = _POINT.validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Damaged(f"{name} is no manifest: {place}: {first['msg']}", file=name) from error
    _check(point, name)
    return point


def _check(point: RecoveryPoint, name: str) -> None:
    """Refuse names that would lead out of the point's directory."""
    names = [point.id, point.machine.uuid]
    names += [image.parent for image in point.disks if image.parent is not None]
    names += [image.disk.target for image in point.disks]
    names += [attachment.name for attachment in point.attachments]
    for item in names:
        if not is_name(item):
            raise Damaged(f"{name} names something impossible: {item!r}", file=name)
