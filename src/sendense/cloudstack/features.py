"""What a cloud can do for this key: asked of itself, never guessed from its version.

``listApis`` shows the commands that the role of the caller may use, with their parameters.  So it
answers both questions at once: what this version has, and what this key may.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from sendense.cloudstack import answers
from sendense.errors import Unavailable

_LOG = logging.getLogger(__name__)

PAGE_SIZE: Final = 500
"""CloudStack's ``default.page.size`` as it is shipped; a cloud that has less refuses more."""


class Asks(Protocol):
    """What is needed of a client."""

    def call(self, command: str, /, **params: Any) -> dict[str, Any]:
        """Ask for an answer."""


@dataclass(frozen=True)
class Features:
    """The commands and parameters that a key may use."""

    apis: frozenset[str]
    params: Mapping[str, frozenset[str]] = field(default_factory=dict, repr=False)
    version: str = ""
    page_size: int = PAGE_SIZE
    admin: bool = False
    """It sees hosts and pools, so that its answers tell where things are."""
    per_second: float | None = None
    """Requests that the cloud lets through; none: it does not say."""

    def has(self, api: str) -> bool:
        """Tell whether a command is there, and allowed."""
        return api in self.apis

    def takes(self, api: str, param: str) -> bool:
        """Tell whether a command has a parameter; also ``details`` of ``details[0].key``."""
        return param.lower() in self.params.get(api, frozenset())


def read_features(client: Asks) -> Features:
    """Ask a cloud what it can do."""
    apis = answers.rows(client.call("listApis"), "api")
    names = frozenset(answers.text(row, "name") for row in apis) - {""}
    if not names:
        # A server that is half awake.  To believe it would hide what parameters there are.
        raise Unavailable(
            "the cloud names no command that this key may use",
            hint="a management server that has just started does that; else look at the key's role",
        )
    params = {
        answers.text(row, "name"): frozenset(
            answers.text(param, "name").lower() for param in answers.rows(row, "params")
        )
        for row in apis
    }
    told = answers.only(client.call("listCapabilities")) if "listCapabilities" in names else {}
    return Features(
        apis=names,
        params=params,
        version=answers.text(told, "cloudstackversion"),
        page_size=_page_size(told),
        admin={"listHosts", "listStoragePools"} <= names,
        per_second=_rate(told),
    )


def _page_size(told: answers.Row) -> int:
    """Give the largest page.  ``defaultuipagesize`` is not it: that is what the pages show."""
    said = answers.number(told.get("defaultpagesize"))
    return min(said, PAGE_SIZE) if said > 0 else PAGE_SIZE


def _rate(told: answers.Row) -> float | None:
    """Give four fifths of what a key may ask for; it is only told where it is limited."""
    most, span = (
        answers.number(told.get("apilimitmax")),
        answers.number(told.get("apilimitinterval")),
    )
    return 0.8 * most / span if most > 0 and span > 0 else None
