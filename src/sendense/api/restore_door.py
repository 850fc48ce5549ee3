"""The way of the API to plans of restores into clouds: they are made of what a cloud has now."""

from __future__ import annotations

from typing import Protocol

from sendense.errors import Unsupported
from sendense.model.ascend import AscendPlan
from sendense.model.ascend_order import CloudRestore


class RestoreDoor(Protocol):
    """Plans restores into clouds."""

    def plan(self, wanted: CloudRestore) -> AscendPlan:
        """Tell all that a restore would do, or what is in its way; nothing is touched."""


class NoRestores:
    """Where neither clouds nor repositories can be asked."""

    def plan(self, wanted: CloudRestore) -> AscendPlan:
        """Refuse."""
        raise Unsupported(f"point {wanted.point_id} cannot be looked at from here")
