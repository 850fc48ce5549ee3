"""Reading small objects with a second look: what is wrong once may be the way, and not the object.

And with a look at their size first: what is larger than any writer makes it is not read at all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from sendense.errors import Damaged, NotAllowed, Rejected, SendenseError, Unsupported
from sendense.repository.dedup import sealing
from sendense.repository.dedup.checking.findings import CheckFinding, Weight, What
from sendense.storage.store import ObjectInfo
from sendense.units import MIB

log = logging.getLogger(__name__)

T = TypeVar("T")

UNREADABLE: Final = (Damaged, NotAllowed, Rejected, Unsupported)
"""What reading an object raises that is not what was written, or not for us."""
_LARGEST: Final = sealing.MOST + MIB


@dataclass(frozen=True)
class Refused:
    """An object that cannot be read, and why."""

    name: str
    error: SendenseError

    @property
    def damaged(self) -> bool:
        """Tell whether it is damaged, for certain: it may also be newer than we are."""
        return isinstance(self.error, Damaged)

    def finding(self, what: What, weight: Weight = Weight.RISK) -> CheckFinding:
        """Give the finding about it."""
        message = self.error.message
        return CheckFinding(
            what, self.name, message if self.name in message else f"{self.name}: {message}", weight
        )


def twice(read: Callable[[], T], item: ObjectInfo) -> T:
    """Read an object; what proves damaged is read once more before that is believed."""
    if item.size > _LARGEST:
        raise Damaged(f"{item.name} is larger than any that is written", size=item.size)
    try:
        return read()
    except Damaged as error:
        log.info("read once more: %s", error)
        return read()
