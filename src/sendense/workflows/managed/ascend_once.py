"""What a restore makes in a cloud is made once, and nothing of others is ever taken for it.

Before something is made, the id of its job in CloudStack is chosen and remembered, and the name
that it is made under: one that nothing else has.  Whoever comes after a process that died asks for
that job; where the cloud does not know it, for what is new under that name, and is the same owner's
and like it in all that was asked for.  A name alone proves nothing: tenants choose theirs freely,
and what is taken for ours is written over.

It gets the name that its owner knows at last.  Where the key may not rename, it is made under that
name at once; then nothing is found by it, and where there may be something, the restore ends.
"""

from __future__ import annotations

import logging
import uuid as uuids
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sendense.cloudstack import answers, inventory, mapping
from sendense.errors import Conflict, NotFound, SendenseError
from sendense.model.cloud import Owner
from sendense.model.job import Json
from sendense.workflows.managed.ascend_journal import Piece
from sendense.workflows.managed.ascend_site import Site

log = logging.getLogger(__name__)

_KEYS = {"listVolumes": "volume", "listVirtualMachines": "virtualmachine"}
_LONGEST = 200

Make = Callable[[str, str], str]
"""Makes something under the job id and the name that it is given, and gives its id."""


@dataclass(frozen=True)
class Sought:
    """Something that is made, and how it is known again."""

    command: str
    """That lists such things."""
    owner: Owner
    label: str
    """The field of its name that may be any."""
    wished: str
    """The name that it has in the end."""
    is_like: Callable[[Json], bool]
    """Tells whether a row has all that was asked for, apart from its name and its owner."""
    rename: Callable[[str, str], None] | None = None
    """Gives what has an id a name; none: the key may not."""
    unique: bool = False
    """``is_like`` alone tells it from all else."""

    def fits(self, row: Json, name: str) -> bool:
        """Tell whether a row could be it, under a name."""
        mine = self.owner.is_same(mapping.owner(row, {}))
        return mine and answers.text(row, self.label) == name and self.is_like(row)


def once(site: Site, piece: Piece, sought: Sought, act: Make) -> str:
    """Have something made, unless an earlier try made it; gives its id."""
    begun = site.journal.begun(piece)
    made = next((str(fact["made"]) for fact in begun if "made" in fact), "")
    found = made or _job_made(site, begun) or _seen(site, sought, begun)
    if not found:
        found = _made_now(site, piece, sought, act)
    row = _ensure_owned(site, sought, found)
    if not made:
        site.journal.begin(piece, made=found)
    _name(sought, row)
    return found


def _made_now(site: Site, piece: Piece, sought: Sought, act: Make) -> str:
    name = sought.wished
    if sought.rename is not None:
        name = f"{name[:_LONGEST]}-{site.task.job.id[-8:]}-{piece.number}"
    known = sorted(answers.text(row, "id") for row in _fitting(site, sought, name))
    job_id = str(uuids.uuid4())
    site.journal.begin(piece, cloud_job=job_id, name=name, known=known)
    found = act(job_id, name)
    if not found:
        raise Conflict(
            f"CloudStack did not say what {piece.steps[0].words} made",
            hint="look in CloudStack; going on with the restore looks for it too",
        )
    return found


# --- What an earlier try made


def _job_made(site: Site, begun: tuple[Json, ...]) -> str:
    """Give what the job of an earlier try made, once that has ended well."""
    for fact in begun:
        if "cloud_job" not in fact:
            continue
        job = site.client.job(str(fact["cloud_job"]), "the job of an earlier try")
        if job is None:
            continue
        try:
            result = site.client.wait(job, check=site.task.check)
        except SendenseError as error:
            if error.retryable:
                raise
            continue
        made = answers.text(answers.only(result), "id")
        if made:
            return made
    return ""


def _seen(site: Site, sought: Sought, begun: tuple[Json, ...]) -> str:
    """Give what is new under the name of an earlier try; raise where it is not sure."""
    found: dict[str, bool] = {}
    known = {str(each) for fact in begun for each in fact.get("known", ())}
    for fact in begun:
        name = str(fact.get("name") or sought.wished)
        sure = sought.unique or name != sought.wished
        for row in _fitting(site, sought, name):
            if answers.text(row, "id") not in known:
                found[answers.text(row, "id")] = sure
    if len(found) == 1 and all(found.values()):
        return next(iter(found))
    if found:
        raise Conflict(
            f"{', '.join(sorted(found))} may be what an earlier try made, or another's of the name"
            f" {sought.wished}: nothing tells which",
            hint="delete in CloudStack what an earlier try made, or rename what it did not",
        )
    return ""


def _fitting(site: Site, sought: Sought, name: str) -> list[Json]:
    owner = sought.owner
    if not (owner.project_id or owner.account):
        return []
    whose: dict[str, Any] = {"account": owner.account, "domainid": owner.domain_id}
    whose = {"projectid": owner.project_id} if owner.project_id else whose
    try:
        pages = list(
            site.client.every(sought.command, _KEYS[sought.command], listall=True, **whose)
        )
    except NotFound:
        return []
    return [row for page in pages for row in page if sought.fits(row, name)]


# --- What it is called in the end


def _ensure_owned(site: Site, sought: Sought, found: str) -> Json:
    """Give the row of what was made; what is not its owner's is not touched."""
    row = inventory.one_row(site.client, sought.command, _KEYS[sought.command], found)
    if row is None:
        raise Conflict(
            f"{found}, which was made for {sought.wished}, is not there any more",
            hint="it was taken away meanwhile: look at CloudStack's events, and begin again",
        )
    now = mapping.owner(row, {})
    if not sought.owner.is_same(now):
        raise Conflict(
            f"{found}, made for {sought.wished}, is {now.words}'s and not {sought.owner.words}'s",
            hint="look at CloudStack's events; it is left as it is",
        )
    return row


def _name(sought: Sought, row: Json) -> None:
    """Give the name that its owner knows; it is a word only."""
    if sought.rename is None or answers.text(row, sought.label) == sought.wished:
        return
    try:
        sought.rename(answers.text(row, "id"), sought.wished)
    except SendenseError as error:
        if error.retryable:
            raise
        log.warning("%s keeps the name it was made under: %s", sought.wished, error)
