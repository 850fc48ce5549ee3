"""Ids that people shorten: the beginning of one is enough where it is the only one."""

from __future__ import annotations

from collections.abc import Sequence

from sendense.errors import NotFound, Rejected


def whole_id(ids: Sequence[str], reference: str, *, what: str, listed_by: str) -> str:
    """Give the one id that a reference is, or is the beginning of."""
    if reference in ids:
        return reference
    fitting = [name for name in ids if reference and name.startswith(reference)]
    if len(fitting) > 1:
        raise Rejected(
            f"{reference!r} means {len(fitting)} of them", hint=f"write more: {', '.join(fitting)}"
        )
    if not fitting:
        raise NotFound(f"there is no {what} {reference!r}", hint=f"'{listed_by}' shows them")
    return fitting[0]
