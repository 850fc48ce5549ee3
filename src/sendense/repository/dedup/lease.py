"""One lease that is held: renewed, checked before what cannot be taken back, and given up.

Others count a lease as dead when it was not renewed for two hours by the store's clock.  The
holder must never rely on one that others passed over, so it is stricter with itself, by a clock
that goes on while the machine is suspended: a gap of an hour between two renewals ends the trust
in the lease **for good** (:meth:`Lease.check`), also if the object is still there and is renewed
again.  A renewal counts from before its first request; the store's time of it is never earlier.

A renewal looks the object up first and never brings back what was removed.  Between the look and
the write there is a moment in which it can be removed, and is then written anew.  That does no
harm: only dead leases are removed, which takes a gap that has ended the trust already; and who
breaks a living one by hand sees it again in the list.
"""

from __future__ import annotations

import contextvars
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from logging import DEBUG, WARNING, getLogger
from types import TracebackType
from typing import Self

from sendense import clock
from sendense.errors import Busy, NotFound, SendenseError, Unavailable
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup.format import SealedKind
from sendense.repository.dedup.keys import KeyRing
from sendense.repository.dedup.lease_claim import Claim
from sendense.repository.dedup.sealing import seal_json
from sendense.storage.store import Store

_LOG = getLogger(__name__)
_NOT_GIVEN_UP: set[str] = set()
"""Ids of the leases of this process, whichever repository they belong to."""


def is_given_up(lease_id: str) -> bool:
    """Tell whether a lease that names this process as its holder is a mere remainder.

    A request to write it may have been repeated on the way, and take effect after the removal.
    """
    return lease_id not in _NOT_GIVEN_UP


@dataclass(frozen=True)
class Timing:
    """How often what is done, and by which clock; tests choose others."""

    renewal_s: float = fmt.LEASE_RENEWAL_S
    retry_s: float = 30
    """After a renewal or a removal that failed."""
    boottime: Callable[[], float] = clock.boottime
    pause: Callable[[float], None] = clock.sleep


class Lease:
    """Held until :meth:`release` or the end of a ``with`` block."""

    def __init__(
        self,
        store: Store,
        ring: KeyRing,
        lease_id: str,
        claim: Claim,
        timing: Timing,
        ended: Callable[[Lease, bool], None],
    ) -> None:
        """Prepare a lease, which :meth:`put` makes.

        ``ended`` is called once, when it was given up: with whether it is gone for certain.
        """
        self.id = lease_id
        self.name = f"{fmt.LEASES}{lease_id}"
        self.claim = claim
        self._store, self._ring, self._boottime = store, ring, timing.boottime
        self._ended_call = ended
        self._lock = threading.Lock()
        # The thread that renews it logs as the run that took it.
        self._context = contextvars.copy_context()
        self._renewed_at = self._boottime()
        self._error: SendenseError | None = None
        self._seen = claim.seen
        self._lapsed = self._removed = self._unsure = self._ended = False
        _NOT_GIVEN_UP.add(lease_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def put(self) -> None:
        """Write it for the first time."""
        self._write(self.claim, self._renewed_at)

    # --- trust

    def check(self) -> None:
        """Raise unless nobody can have passed over this lease; call it before each lasting step.

        :class:`~sendense.errors.Busy` where somebody removed it, and
        :class:`~sendense.errors.Unavailable` where it was once not renewed for an hour.
        Both say: begin again.
        """
        self._open()
        if self._removed:
            raise self._gone()
        if not self._trusted():
            raise Unavailable(
                f"the lease of {self.claim.wish.text} was not renewed in time"
                + (f": {self._error.message}" if self._error else ""),
                hint="run it again; if the machine was not suspended, look why the repository's "
                "store could not be reached for an hour",
                lease=self.id,
            ) from self._error

    def still_there(self) -> bool:
        """Tell whether the lease held until now; for the look after a lasting step.

        False also where the object is there and :meth:`check` would raise: others may have
        passed over it.
        """
        if self._removed:
            return False
        try:
            self._store.info(self.name)
        except NotFound:
            self._removed = True
            return False
        return self._trusted()

    def _open(self) -> None:
        if self._ended:
            raise ValueError("the lease was given up")

    def _trusted(self) -> bool:
        if self._boottime() - self._renewed_at > fmt.LEASE_COMMIT_S:
            self._lapsed = True
        return not self._lapsed

    def _gone(self) -> Busy:
        return Busy(
            f"the lease of {self.claim.wish.text} was removed by somebody else",
            hint="find out who gave this run up for dead, then run it again",
            lease=self.id,
        )

    # --- renewal

    def note_seen(self, condemned: Iterable[str]) -> None:
        """Tell others which condemnations the holder knows and will not refer to.

        Only what was listed **before** the first reference may be noted: packs that are
        condemned by it are removed without waiting for this lease.
        """
        self.note(condemned)
        self._renew()

    def note(self, condemned: Iterable[str]) -> None:
        """Do so with the next renewal."""
        self._open()
        with self._lock:
            self._seen |= frozenset(condemned)

    @property
    def is_urgent(self) -> bool:
        """Tell whether there is something to tell, or the last renewal failed."""
        return self._seen != self.claim.seen or self._error is not None

    def keep(self) -> bool:
        """Renew it, for the thread that does so; False where it should soon be tried again."""
        return self._context.run(self._keep)

    def _keep(self) -> bool:
        if self._removed or not self._ours():
            return True
        try:
            self._renew()
        except SendenseError as error:
            level = DEBUG if self._error and not self._removed else WARNING
            _LOG.log(level, "lease of %s is not renewed: %s", self.claim.wish.text, error)
            self._error = error
            return self._removed
        return True

    def _renew(self) -> None:
        with self._lock:
            if self._ended:
                return
            if self._removed:
                raise self._gone()
            began = self._boottime()
            try:
                self._store.info(self.name)
            except NotFound as error:
                self._removed = True
                raise self._gone() from error
            claim = replace(self.claim, settled=True, seen=self._seen)
            self._write(claim, began)

    def _write(self, claim: Claim, began: float) -> None:
        data = seal_json(self._ring, self.name, SealedKind.LEASE, claim.to_json())
        try:
            self._store.put(self.name, data)
        except BaseException:
            # What failed may take effect later, even after the removal.
            self._unsure = True
            raise
        self._trusted()  # before the gap is forgotten
        self.claim, self._renewed_at = claim, began
        if self._error is not None:
            _LOG.info("lease of %s is renewed again", claim.wish.text)
            self._error = None

    # --- the end

    def release(self) -> None:
        """Give it up.

        Never fails: where the store does not remove it, it is removed later, or expires.  A
        forked child does not give up what is its parent's.
        """
        with self._lock:
            if self._ended:
                return
            self._ended = True
            _NOT_GIVEN_UP.discard(self.id)
            if not self._ours():
                return
            certain = False
            try:
                certain = self._delete() and not self._unsure
            finally:
                self._ended_call(self, certain)

    def _delete(self) -> bool:
        try:
            self._store.delete([self.name])
        except SendenseError as error:
            _LOG.warning("lease of %s is not removed yet: %s", self.claim.wish.text, error)
            return False
        except BaseException:
            # A signal.  It comes once, and a lease that is left keeps other hosts waiting.
            with suppress(SendenseError):
                self._store.delete([self.name])
            raise
        return True

    def _ours(self) -> bool:
        return os.getpid() == self.claim.holder.pid
