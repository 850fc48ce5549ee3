"""Copy: points of one repository into another, one after the other.

The two need have nothing in common, neither kind nor key.  A point is in the target whole, or
not at all.  A run that is broken off goes on with the point that it was at; a target that
deduplicates finds what it got of it already.

What is done for one point is in :mod:`~sendense.workflows.point_copier`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import groupby

from sendense import clock
from sendense.errors import (
    Cancelled,
    Damaged,
    NotAllowed,
    OutOfSpace,
    SendenseError,
    Unavailable,
)
from sendense.model.point_copy import CopyPlan, CopyVerdict, PointCopy
from sendense.model.progress import ProgressListener, silent
from sendense.repository.protocol import Repository
from sendense.workflows.point_copier import CopyOptions, PointCopied, PointCopier

log = logging.getLogger(__name__)

Watch = Callable[[str], AbstractContextManager[ProgressListener]]
"""Shows the progress of a machine, which is given by name."""

_ENDS_ALL = (KeyboardInterrupt, NotAllowed, OutOfSpace, Unavailable)
"""What would meet every other machine as well."""
_CONCERNS_ONE = Damaged
"""What is wrong with a point, and says nothing of the next."""


def _unwatched(_machine: str) -> AbstractContextManager[ProgressListener]:
    return nullcontext(silent)


def run_copy(
    source: Repository,
    target: Repository,
    plan: CopyPlan,
    options: CopyOptions | None = None,
    *,
    watch: Watch = _unwatched,
) -> tuple[PointCopied, ...]:
    """Carry a plan out; gives what became of each point, also where it went wrong.

    A machine whose point cannot be stored is left there, so that its points stay in
    order; the others go on, unless the error would meet them too.
    """
    options = options or CopyOptions()
    done: list[PointCopied] = []
    ended: BaseException | None = None
    for _, items in groupby(plan.points, key=lambda item: item.point.machine.uuid):
        machine = list(items)
        if ended is not None or not any(item.verdict is CopyVerdict.COPY for item in machine):
            done += _not_tried(machine, ended)
            continue
        with watch(machine[0].point.machine.name) as listener:
            results = _copy_machine(PointCopier(source, target, options, listener), machine)
        done += results
        ended = next((item.error for item in results if isinstance(item.error, _ENDS_ALL)), None)
    return tuple(done)


def _copy_machine(copier: PointCopier, items: Sequence[PointCopy]) -> list[PointCopied]:
    results: list[PointCopied] = []
    for number, item in enumerate(items):
        if item.verdict is not CopyVerdict.COPY:
            results.append(PointCopied(item))
            continue
        result = _attempt(copier, item)
        results.append(result)
        if result.error is not None and not isinstance(result.error, _CONCERNS_ONE):
            return results + _not_tried(items[number + 1 :], result.error)
    return results


def _attempt(copier: PointCopier, item: PointCopy) -> PointCopied:
    began = clock.monotonic()
    try:
        result = copier.copy(item)
    except (SendenseError, OSError, KeyboardInterrupt) as error:
        log.info("point %s is not copied: %s", item.point.id, str(error) or "stopped")
        result = PointCopied(item, error=error)
    return replace(result, seconds=clock.monotonic() - began)


def _not_tried(items: Iterable[PointCopy], error: BaseException | None) -> list[PointCopied]:
    """Tell of what was left; what needed no copy is as it was planned."""
    why = Cancelled("the copy ended before its turn came")
    return [
        PointCopied(item, error=why, tried=False)
        if error is not None and item.verdict is CopyVerdict.COPY
        else PointCopied(item)
        for item in items
    ]
