"""CloudStack's refusals as errors that say what an operator should do.

CloudStack has some fifteen codes and one sentence beside each.  A code tells the kind; 431 is
everything else, so there its sentence is read: an object that is not there, and one that is busy,
are told apart from a request that is wrong.
"""

from __future__ import annotations

import re
from typing import Final

from sendense.cloudstack.answers import Refused, short
from sendense.errors import (
    Busy,
    Conflict,
    NotAllowed,
    NotFound,
    Rejected,
    SendenseError,
    Unavailable,
    Unsupported,
)

AGAIN: Final = frozenset({429, 533, 534, 536})
"""Nothing was done, and the same request may succeed in a moment."""

_ROLE: Final = "`sendense cloud role` prints the role that a key needs"
_BUSY: Final = re.compile(
    r"other active \w+ tasks|in progress|try again|being (?:used|migrated|snapshot|backed)"
    r"|another (?:job|operation|command|task)|state change lock|concurrent operation",
    re.IGNORECASE,
)
_MOVING: Final = re.compile(
    r"\b(?:Migrating|Starting|Stopping|Snapshotting|RevertSnapshotting|Resizing|Attaching|Copying"
    r"|Creating|Restoring|BackingUp)\b"
)
_GONE: Final = re.compile(
    r"entity does not exist|unable to find|could ?n[o']t find|cannot find|not found", re.IGNORECASE
)
_RESTART: Final = re.compile(r"management server (?:restart|shutdown|stop)", re.IGNORECASE)


class Lost(Unavailable):
    """The request may have been carried out: its answer did not arrive."""


def refusal(command: str, refused: Refused, *, cloud: str = "") -> SendenseError:
    """Make the error that a refused request is."""
    code, said = refused.code, refused.text or "no reason given"
    kind, hint = _kind(command, code, said)
    return kind(
        f"{_place(cloud)}refuses {command}: {said} ({code})",
        hint=hint, cloud=cloud, command=command, cs_code=code,
    )  # fmt: skip


def failed_job(
    command: str, refused: Refused, *, cloud: str = "", job_id: str = ""
) -> SendenseError:
    """Make the error that a failed job is."""
    said = short(refused.text) or "no reason given"
    kind, hint = _kind(command, refused.code, said)
    if kind is Unavailable and refused.code == 530:
        # 530 is also what every failure on a host comes back as: the same again fails again.
        kind, hint = SendenseError, "the management server's log has more under the id of the job"
    if _RESTART.search(said):
        kind, hint = Unavailable, "the management server was restarted; run it again"
    return kind(
        f"{_place(cloud)}could not carry out {command}: {said} ({refused.code})",
        hint=hint, cloud=cloud, command=command, cs_code=refused.code, job=job_id,
    )  # fmt: skip


def no_answer(
    command: str, what: str, *, cloud: str = "", sent: bool = True, hint: str | None = None
) -> Unavailable:
    """Make the error for a cloud that did not answer, or not as it should."""
    kind = Lost if sent else Unavailable
    return kind(
        f"{_place(cloud)}did not answer {command}: {what}",
        hint=hint or "look whether the endpoint is right, and whether the management server runs",
        cloud=cloud, command=command,
    )  # fmt: skip


def unknown_command(command: str, *, cloud: str = "") -> SendenseError:
    """Make the error for a command that this version does not have, or gives to nobody."""
    return Unsupported(
        f"{_place(cloud)}does not know {command} (401)",
        hint=(
            f"the key is good, so this version of CloudStack has no {command}, or shows it to no "
            "role of this kind; `sendense cloud check` tells what it can do"
        ),
        cloud=cloud, command=command, cs_code=401,
    )  # fmt: skip


def not_known_to_it(command: str, said: str, *, skew_s: float, cloud: str = "") -> SendenseError:
    """Make the error for a cloud that refuses the key itself, for one of many reasons."""
    clock = (
        f"its clock is {abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} ours, "
        "mend that first; else "
        if abs(skew_s) > 60
        else ""
    )
    return NotAllowed(
        f"{_place(cloud)}does not accept the key: {said or 'no reason given'} (401)",
        hint=(
            f"CloudStack gives one answer for all of these: {clock}the API key or the secret is "
            "wrong or was renewed, its user or account is disabled or locked, API access is "
            "switched off (api.key.access), or our address is not allowed "
            "(api.allowed.source.cidr.list)"
        ),
        cloud=cloud, command=command, cs_code=401, skew_s=round(skew_s, 1),
    )  # fmt: skip


def is_busy(said: str) -> bool:
    """Tell whether a sentence of CloudStack says "not now"."""
    return bool(_BUSY.search(said) or ("state" in said.lower() and _MOVING.search(said)))


def _place(cloud: str) -> str:
    return f"{cloud or 'CloudStack'} "


def _kind(command: str, code: int, said: str) -> tuple[type[SendenseError], str | None]:
    if code in _KINDS:
        return _KINDS[code]
    if code == 432:
        return NotAllowed, f"allow {command} to the role of this key; {_ROLE}"
    if is_busy(said):
        return Busy, "something else works on it in CloudStack; it is tried again later"
    if code == 431 and _GONE.search(said):
        return NotFound, None
    if code in (430, 431):
        return Rejected, None
    return Unavailable, "the management server's log has the reason"


_KINDS: Final[dict[int, tuple[type[SendenseError], str | None]]] = {
    405: (Rejected, "the endpoint has to be the API's own: https://HOST/client/api"),
    429: (Busy, "CloudStack limits the requests of a key (api.throttling); raise it for this one"),
    511: (NotAllowed, "give the key of a user without a second factor, for which keys are exempt"),
    531: (NotAllowed, f"the account of this key may not do it; {_ROLE}"),
    532: (
        Rejected,
        "a limit of the account, project or domain is reached: raise it, or free what counts "
        "against it",
    ),
    533: (Busy, "no host or pool has room for it now; free some, or add capacity"),
    534: (Unavailable, "a host or pool that it needs is away"),
    535: (Rejected, "CloudStack found nowhere to put it: check the offering, tags and capacity"),
    536: (Busy, "something else uses it; it is tried again later"),
    537: (Conflict, "a rule of the network is in the way"),
}
