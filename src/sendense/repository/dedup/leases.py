"""Leases: who is at work in a repository, in a store that has no locks.

Whoever begins something puts an object ``leases/<id>``, and only then lists all of them.  Of two
that exclude each other, the later one to put finds the other, so at most one goes on; who does
not takes its lease back and is told :class:`~sendense.errors.Busy`, with the name of the one
that is at work.

This rests on listings that show every object which was there before they began and stays.  One
that lags is noticed where it does not even show the lease that was just put: nothing is granted
then.  Where it lags for others' objects only, two may hold what excludes each other:

* two writers of a machine make two points of one sequence; both are whole;
* a deletion takes away the name of a point that is being read.  What is in it stays readable, as
  a collection of garbage waits for the reader and for the grace time, which is longer than
  listings lag;
* a collection of garbage overlooks a writer.  What it condemns is removed by a later look only,
  after the grace time.

A lease that is listed although it was removed does no harm: it is looked up before anybody is
refused for it.

No decision asks a clock of ours.  Dead is a lease whose process is known to be gone (on this
host, killed: the next run does not wait), or that was not renewed for two hours, between two times
of the store itself.  A dead lease is removed when it is passed over, so that a holder who wakes
up learns of it; but what makes that safe is the holder's own strictness, see
:mod:`~sendense.repository.dedup.lease`.

The rules are in :mod:`~sendense.repository.dedup.lease_rules`.
"""

from __future__ import annotations

import random
import re
import secrets
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from logging import getLogger

from sendense import clock
from sendense.errors import NotAllowed, NotFound, SendenseError, Unavailable
from sendense.repository.dedup import format as fmt
from sendense.repository.dedup import lease_rules as rules
from sendense.repository.dedup.format import SealedKind
from sendense.repository.dedup.keys import KeyRing
from sendense.repository.dedup.lease import Lease, Timing, is_given_up
from sendense.repository.dedup.lease_claim import Claim, LeaseKind, LeaseRecord, Wish
from sendense.repository.dedup.lease_holder import Fate, fate_of, this_process
from sendense.repository.dedup.lease_rounds import Rounds
from sendense.repository.dedup.lease_rules import Course, Rival
from sendense.repository.dedup.sealing import unseal_json
from sendense.storage.store import ObjectInfo, Store
from sendense.units import MIB

_LOG = getLogger(__name__)
_ID = re.compile(r"[0-9a-f]{32}")

ATTEMPTS = 4
LOOKS = 5
LOOK_S = 0.2
BACK_OFF_S = (0.5, 1.5)
"""Longer than a look, so that whoever stays looks before the other is back."""
_REMOVALS = 2
"""How often a lease is removed whose last write may still be under way."""
_LARGEST = 16 * MIB


@dataclass(frozen=True)
class Found:
    """A lease that was found in the store, and whether it still holds."""

    record: LeaseRecord
    dead: str | None
    """Why it holds no longer."""


class Leases:
    """The leases of one repository, as one process sees and holds them; for many threads."""

    def __init__(self, store: Store, ring: KeyRing, *, timing: Timing | None = None) -> None:
        """Take the store, and the ring that seals the leases."""
        self._store, self._ring = store, ring
        self._timing = timing or Timing()
        self._mutex = threading.Lock()
        self._own: dict[str, Lease] = {}
        self._held: dict[str, Lease] = {}
        """Those of our own that were granted: these are renewed."""
        self._all_due = 0.0
        """When all that are held are renewed next."""
        self._left_over: dict[str, int] = {}
        self._read: dict[ObjectInfo, Claim | None] = {}
        self._rounds = Rounds(self._round, after_bug_s=self._timing.retry_s)

    # --- taking one

    def acquire(self, wish: Wish) -> Lease:
        """Take a lease, or raise :class:`~sendense.errors.Busy`, which says who is at work.

        Where others came at the same moment, this takes up to a few seconds.
        """
        for attempt in range(1, ATTEMPTS + 1):
            lease = self._put(wish)
            try:
                course, rivals = self._contend(lease)
            except BaseException:
                lease.release()
                raise
            if course is Course.TAKE:
                return lease
            lease.release()
            if course is Course.REFUSED or attempt == ATTEMPTS:
                break
            self._timing.pause(random.uniform(*BACK_OFF_S))  # noqa: S311 - no secret
        raise rules.busy(rivals)

    def _put(self, wish: Wish) -> Lease:
        """Put a lease that is not yet held."""
        now = clock.format_utc(clock.now())
        claim = Claim(wish, this_process(), taken_at=now)
        lease = Lease(self._store, self._ring, _new_id(), claim, self._timing, self._ended)
        with self._mutex:
            self._own[lease.id] = lease
        try:
            lease.put()
        except BaseException:
            lease.release()
            raise
        return lease

    def _contend(self, lease: Lease) -> tuple[Course, list[Rival]]:
        """Look who stands in the way, until it is clear how to go on."""
        rivals: list[Rival] = []
        shown = False
        for look in range(LOOKS):
            if look:
                self._timing.pause(LOOK_S)
            records = self._list()
            own = next((record for record in records if record.id == lease.id), None)
            if own is None:
                continue
            shown = True
            rivals = self._rivals(own, lease.claim.wish, records)
            course = rules.course(own, rivals)
            if course is Course.TAKE:
                self._hold(lease)
            if course is not Course.STAY:
                return course, rivals
        if not shown:
            raise Unavailable(
                f"{self._store.location} does not list what was written to it just now",
                hint="try again; a store whose listings lag for long cannot hold a repository",
                lease=lease.id,
            )
        return Course.REFUSED, rivals

    def _rivals(self, own: LeaseRecord, wish: Wish, records: Iterable[LeaseRecord]) -> list[Rival]:
        """Give the living leases that stand in the way, each looked up once more."""
        others = [record for record in records if record.id != own.id]
        rivals = []
        for record in self._living(others, own.modified):
            reason = rules.obstacle(wish, record)
            if reason is not None and self._is_there(record.name):
                rivals.append(Rival(record, reason, certain=record.id in self._held))
        return rivals

    def _hold(self, lease: Lease) -> None:
        with self._mutex:
            if not self._held:
                self._all_due = clock.monotonic() + self._timing.renewal_s
            self._held[lease.id] = lease
        self._rounds.within(self._timing.renewal_s)

    def note_soon(self, lease: Lease, condemned: Iterable[str]) -> None:
        """Have it told what the holder of ``lease`` has seen, beside what he does.

        Until then others are only more careful: for whoever refers to nothing, early enough.
        """
        lease.note(condemned)
        self._rounds.within(0)

    # --- looking at all

    def active(self) -> tuple[LeaseRecord, ...]:
        """Give the leases that hold, our own included; dead ones are removed."""
        now = self.store_now()
        return tuple(self._living(self._list(), now))

    def survey(self) -> tuple[Found, ...]:
        """Give all leases, with those that hold no longer, which are not removed."""
        now: datetime | None
        try:
            now = self.store_now()
        except NotAllowed:
            # Nobody writes here.  What was written last is not later than the store's clock.
            now = None
        records = self._list()
        if now is None:
            now = max((record.modified for record in records), default=clock.now())
        return tuple(Found(record, self._death(record, now)) for record in records)

    def remove_dead(self) -> tuple[LeaseRecord, ...]:
        """Remove the leases that hold no longer, and give them."""
        dead = [found.record for found in self.survey() if found.dead is not None]
        if dead:
            self._store.delete([record.name for record in dead])
        return tuple(dead)

    def break_lease(self, lease_id: str) -> None:
        """Remove a lease that an operator knows to be dead.

        If its holder lives after all, it learns of that at the next renewal, and its work comes to
        nothing.
        """
        name = f"{fmt.LEASES}{lease_id}"
        if not _ID.fullmatch(lease_id) or not self._is_there(name):
            raise NotFound(
                f"there is no lease {lease_id}",
                hint="list the leases: it may have been given up since",
                lease=lease_id,
            )
        self._store.delete([name])

    def store_now(self) -> datetime:
        """Give the time by the store's own clock: that of an object which is written for it.

        It is a lease that excludes nobody: one that is left behind is removed as all are.
        """
        probe = self._put(Wish(LeaseKind.READ, "a look at the store's clock"))
        try:
            return self._store.info(probe.name).modified
        finally:
            probe.release()

    def _living(self, records: Iterable[LeaseRecord], now: datetime) -> list[LeaseRecord]:
        """Leave out the dead, and remove them.

        ``now`` may be a little old: then a dead lease holds for that much longer.
        """
        living, dead = [], []
        for record in records:
            reason = self._death(record, now)
            if reason is None:
                living.append(record)
            else:
                _LOG.info("the lease of %s holds no longer: %s", record.described(), reason)
                dead.append(record.name)
        if dead:
            try:
                self._store.delete(dead)
            except SendenseError as error:
                _LOG.warning("leases that hold no longer are not removed: %s", error)
        return living

    def _death(self, record: LeaseRecord, now: datetime) -> str | None:
        if record.id in self._own:
            return None
        fate = Fate.UNKNOWN
        if record.claim is not None:
            fate = fate_of(record.claim.holder)
            if record.claim.holder == this_process() and is_given_up(record.id):
                fate = Fate.GONE
        return rules.death(record, fate, now)

    # --- reading

    def _list(self) -> list[LeaseRecord]:
        """List and read all leases."""
        listed = {
            item: item.name.removeprefix(fmt.LEASES) for item in list(self._store.list(fmt.LEASES))
        }
        records = [
            record
            for item, lease_id in listed.items()
            if _ID.fullmatch(lease_id)
            if (record := self._record(item, lease_id)) is not None
        ]
        with self._mutex:
            self._read = {item: claim for item, claim in self._read.items() if item in listed}
        return records

    def _record(self, item: ObjectInfo, lease_id: str) -> LeaseRecord | None:
        """Read one lease; none where it was removed since it was listed."""
        own = self._own.get(lease_id)
        if own is not None:
            return LeaseRecord(lease_id, item.modified, own.claim)
        try:
            claim = self._read[item]
        except KeyError:
            try:
                claim = self._claim(item.name)
            except NotFound:
                return None
            # One that is renewed within the resolution of the store's clock looks the same; what
            # is then not known of it (settled, seen) only makes others more careful.
            with self._mutex:
                self._read[item] = claim
        return LeaseRecord(lease_id, item.modified, claim)

    def _claim(self, name: str) -> Claim | None:
        data = self._store.get(name)
        try:
            content = unseal_json(self._ring, name, SealedKind.LEASE, data, most=_LARGEST)
            return Claim.from_json(content, name)
        except SendenseError as error:
            _LOG.warning(
                "the lease %s cannot be read, and counts until it expires: %s", name, error
            )
            return None

    def _is_there(self, name: str) -> bool:
        """Look a lease up: a listing may be old, and its content was read before."""
        try:
            self._store.info(name)
        except NotFound:
            return False
        return True

    # --- the thread, and the end

    def _round(self) -> float | None:
        """Renew what is due, and remove what is left over; gives the time until the next round."""
        with self._mutex:
            held, left_over = list(self._held.values()), list(self._left_over)
        now = clock.monotonic()
        if now >= self._all_due:
            self._all_due = now + self._timing.renewal_s
        else:
            held = [lease for lease in held if lease.is_urgent]
        trouble = [lease.id for lease in held if not lease.keep()]
        for lease_id in left_over:
            self._remove_left_over(lease_id)
        with self._mutex:
            if self._left_over or trouble:
                return self._timing.retry_s
            return max(0.0, self._all_due - clock.monotonic()) if self._held else None

    def _remove_left_over(self, lease_id: str) -> None:
        try:
            self._store.delete([f"{fmt.LEASES}{lease_id}"])
        except SendenseError as error:
            _LOG.debug("a lease that was given up is not removed yet: %s", error)
            return
        with self._mutex:
            self._left_over[lease_id] -= 1
            if self._left_over[lease_id] == 0:
                del self._left_over[lease_id]

    def _ended(self, lease: Lease, certain: bool) -> None:
        """Take note that a lease was given up."""
        with self._mutex:
            self._own.pop(lease.id, None)
            self._held.pop(lease.id, None)
            if not certain:
                self._left_over[lease.id] = _REMOVALS
            nothing = not self._held and not self._left_over
        if not certain:
            self._rounds.within(self._timing.retry_s)
        elif nothing:
            self._rounds.end()


def _new_id() -> str:
    return secrets.token_hex(16)
