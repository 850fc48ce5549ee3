"""What all bodies have in common, and the small types they are made of.

What is sent to us is read strictly: a field that is not known is a mistake.  What we send may grow.
"""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from fastapi import Path, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from sendense.model.page import DEFAULT_LIMIT, LARGEST_LIMIT, Paging

T = TypeVar("T")

_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"


class Shape(BaseModel):
    """Something that we send."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)


class Asked(BaseModel):
    """Something that is sent to us."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class PageOf(Shape, Generic[T]):
    """A part of a list."""

    items: list[T]
    next_cursor: str | None = None
    """Send it as `cursor` for the next part; null at the end."""


Name = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=_PRINTABLE)]
Text = Annotated[str, StringConstraints(max_length=255, pattern=_PRINTABLE)]
LongText = Annotated[str, StringConstraints(min_length=1, max_length=2000, pattern=_PRINTABLE)]
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._@:-]{1,64}$")]
UserName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._@-]{1,64}$")]
_KNOWN_USER = r"^[A-Za-z0-9._@:/%~-]{1,255}$"
KnownUser = Annotated[str, StringConstraints(pattern=_KNOWN_USER)]
"""Also one that came by the keys of a cloud: ``cloud:<cloud>:<domain>:<account>``, all ids."""
UserInPath = Annotated[str, Path(pattern=_KNOWN_USER, description="Its name.")]
Count = Annotated[int, Field(ge=0, le=100_000)]
Seconds = Annotated[float, Field(ge=0, le=10 * 365 * 86400, allow_inf_nan=False)]
Priority = Annotated[int, Field(ge=-1000, le=1000)]
IdInPath = Annotated[str, Path(pattern=r"^[A-Za-z0-9._@:-]{1,64}$", description="Its id.")]
Search = Annotated[
    str | None,
    Query(max_length=255, pattern=_PRINTABLE, description="A part of the name, in any case."),
]
IdAsked = Annotated[str | None, Query(pattern=r"^[A-Za-z0-9._@:-]{1,64}$")]
TextAsked = Annotated[str | None, Query(max_length=255, pattern=_PRINTABLE)]
Moment = Annotated[AwareDatetime | None, Query()]


def paging(
    limit: Annotated[
        int, Query(ge=1, le=LARGEST_LIMIT, description="At most so many items.")
    ] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None, Query(max_length=2000, description="`next_cursor` of the part before.")
    ] = None,
) -> Paging:
    """Read which part of a list is wanted."""
    return Paging(limit, cursor)
