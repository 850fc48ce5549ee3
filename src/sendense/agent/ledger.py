"""What the agent remembers of tickets over a restart: each that was used, and what it began.

One file for each ticket that acts.  It is written before the work begins, so that a ticket is
used once whatever happens; with every change of the work's state; and before an intent is
carried out, so that what a dead agent was told is done by the next one.  Secrets of exports
are never in it.

A file goes once its work is over and its ticket could begin nothing any more; until then the
same ticket leads to the same answer.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Optional

from sendense import clock
from sendense.capture.journal import write_durably
from sendense.errors import NotAllowed, Rejected, SendenseError
from sendense.model.agent_status import FINAL, CaptureStatus, RestoreStatus, WorkState
from sendense.model.coding import decode, encode
from sendense.model.ticket import Action, Ticket

log = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

_KEPT = timedelta(hours=24)
"""For how long the outcome of a work is told after its end."""


class Intent(str, Enum):
    """What somebody decided about a work, and may not be carried out yet."""

    NONE = ""
    COMMIT = "commit"
    """Of a restore: all disks are complete and durable, and get their names."""
    ABORT = "abort"


@dataclass(frozen=True)
class NewMachine:
    """A machine that a restore makes when its disks are complete."""

    domain_xml: str
    define: bool
    """libvirt is to keep it."""
    start: bool
    new: bool
    """Its disks are new, so the host must not know it yet."""


@dataclass(frozen=True)
class Record:
    """One used ticket, and what became of it."""

    id: str
    action: Action
    expires_at: datetime
    state: WorkState
    machine: Optional[str] = None
    intent: Intent = Intent.NONE
    drop: tuple[str, ...] = ()
    """Checkpoints to drop with the intent to commit."""
    parts: tuple[str, ...] = ()
    """Files of a restore that have no name yet."""
    places: tuple[str, ...] = ()
    """What a restore overwrites."""
    nvram: Optional[str] = None
    """The UEFI variable store that a restore replaces at its end."""
    defines: bool = False
    """Whether a restore has to define or start a machine at its end."""
    makes: Optional[NewMachine] = None
    """What that is, from the moment on in which its disks are complete to its end."""
    changed_at: Optional[datetime] = None
    capture: Optional[CaptureStatus] = None
    restore: Optional[RestoreStatus] = None
    removed: Optional[tuple[str, ...]] = None
    """What a release took off."""

    @property
    def final(self) -> bool:
        """Tell whether the work is over."""
        return self.state in FINAL


def ensure_id(ticket: Ticket) -> None:
    """Refuse an id that could not name a file."""
    if not _ID.fullmatch(ticket.id):
        raise Rejected(f"{ticket.id[:80]!r} is no id of a ticket: letters, digits, '-' and '_'")


class Ledger:
    """The records, in a folder; safe for several threads."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, making it where it is missing."""
        self._folder = folder
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise NotAllowed(f"cannot use the folder {folder}: {error.strerror}") from error
        self._open = {record.id for record in self.records() if not record.final}

    def open_ids(self) -> tuple[str, ...]:
        """Name the work that is not over."""
        with self._lock:
            return tuple(sorted(self._open))

    def get(self, identity: str) -> Optional[Record]:
        """Give the record of a ticket, if it was used."""
        if not _ID.fullmatch(identity):
            return None
        return _read(self._file(identity))

    def put(self, record: Record) -> None:
        """Make a record durable."""
        content = encode(replace(record, changed_at=clock.now(), capture=_public(record.capture)))
        with self._lock:
            write_durably(self._file(record.id), content)
            (self._open.discard if record.final else self._open.add)(record.id)

    def use(self, record: Record) -> bool:
        """Note the use of a ticket; gives false where it was used before."""
        with self._lock:
            if self._file(record.id).exists():
                return False
            content = encode(replace(record, changed_at=clock.now()))
            write_durably(self._file(record.id), content)
            self._open.add(record.id)
            return True

    def records(self) -> Iterator[Record]:
        """Walk over all."""
        for file in sorted(self._folder.glob("*.json")):
            record = _read(file)
            if record is not None:
                yield record

    def forget_old(self, now: datetime, *, skew: timedelta) -> None:
        """Remove what nobody can need: over, told for a day, and the ticket expired."""
        for record in self.records():
            changed = record.changed_at or now
            if record.final and max(record.expires_at + skew, changed + _KEPT) < now:
                self._file(record.id).unlink(missing_ok=True)

    def _file(self, identity: str) -> Path:
        return self._folder / f"{identity}.json"


def _public(status: Optional[CaptureStatus]) -> Optional[CaptureStatus]:
    """Leave out secrets, and what is large and no longer asked for."""
    if status is None:
        return None
    return replace(status, exports=(), domain_xml="", nvram=None)


def _read(file: Path) -> Optional[Record]:
    try:
        return decode(Record, json.loads(file.read_text(encoding="utf-8")), place=file.name)
    except FileNotFoundError:
        return None
    except (SendenseError, ValueError) as error:
        # A torn file cannot come from us. Its ticket stays used, as the file stays.
        log.warning("the record %s cannot be read: %s", file, error)
        return None
