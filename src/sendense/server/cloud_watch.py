"""Looking at every cloud again and again: whole now and then, quickly in between, or on a hint.

Of several servers one looks by the clock; each looks at the instances that it gets hints of.  One
cloud that does not answer keeps no other waiting.  Webhooks come as hints: they say that something
changed, never what is true.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sendense import clock
from sendense.errors import Cancelled, SendenseError
from sendense.model.cloud import Cloud
from sendense.server.turn import DEAD_AFTER_S, Turn
from sendense.workflows.managed.cloud_sync import (
    MOST_AT_ONCE,
    instances_in_events,
    look_at_cloud,
    look_at_instances,
)
from sendense.workflows.managed.estate import Estate

log = logging.getLogger(__name__)

_TICK_S = 1.0
_STOP_S = 5.0
"""Nobody waits for longer until looks that are under way have ended."""
_PAUSE_S = 30.0
"""After a failure no look comes earlier, also not on hints."""
_NEWS = timedelta(minutes=5)
"""Who does not look by the clock reads no older events."""
_TURN = "clouds"


@dataclass
class _Known:
    """What is remembered of a cloud between two looks."""

    whole_at: float = float("-inf")
    quick_at: float = float("-inf")
    not_before: float = float("-inf")
    since: datetime = field(default_factory=clock.now)
    hints: set[str] = field(default_factory=set)
    """Instances; an empty text is for something that is none."""
    failing: bool = False
    busy: bool = False
    thread: threading.Thread | None = None


class CloudWatch:
    """Looks at all clouds until it is stopped."""

    def __init__(
        self,
        estate: Estate,
        *,
        whole_s: float,
        quick_s: float,
        dead_after_s: float = DEAD_AFTER_S,
    ) -> None:
        """Look whole and quickly so often; another server that is silent for so long is dead."""
        self._estate = estate
        self._whole_s = whole_s
        self._quick_s = quick_s
        self._soon_s = min(whole_s, quick_s)
        self._turn = Turn(estate.catalog.turns, _TURN, dead_after_s=dead_after_s)
        self._mine = False
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cloud-watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, *, within_s: float = _STOP_S) -> None:
        """End; a look that is under way ends at its next page, or is left to end by itself."""
        self._stop.set()
        self._wake.set()
        end = clock.monotonic() + within_s
        with self._lock:
            looks = [known.thread for known in self._known.values() if known.thread is not None]
        for thread in (self._thread, *looks):
            if thread.is_alive():
                thread.join(max(0.0, end - clock.monotonic()))
            if thread.is_alive():
                log.info("%s waits for an answer, and is left alone with it", thread.name)
        try:
            self._turn.give_up()
        except SendenseError as error:
            log.info("the turn to look at clouds is not given up: %s", error)

    def hint(self, cloud_id: str, instance: str = "") -> None:
        """Take a hint: look at an instance, or at what happened, at once."""
        with self._lock:
            known = self._known.setdefault(cloud_id, _Known())
            if len(known.hints) < MOST_AT_ONCE:
                known.hints.add(instance)
            else:
                known.whole_at = float("-inf")
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._mine = self._turn.is_mine()
                for cloud in self._estate.catalog.clouds.every():
                    if cloud.enabled:
                        self._begin(cloud)
            except SendenseError as error:
                log.warning("the clouds cannot be listed: %s", error)
            except Exception:
                log.exception("listing the clouds stumbled; it goes on later")
            self._wake.wait(_TICK_S)
            self._wake.clear()

    def _begin(self, cloud: Cloud) -> None:
        """Have a cloud looked at if it is time, by a thread of its own."""
        with self._lock:
            known = self._known.setdefault(cloud.id, _Known())
            now = clock.monotonic()
            if known.busy or now < known.not_before or self._stop.is_set():
                return
            whole = self._mine and now - known.whole_at >= self._whole_s
            quick = self._mine and now - known.quick_at >= self._quick_s
            if not (whole or quick or known.hints):
                return
            known.busy = True
            hints, known.hints = known.hints, set()
            known.quick_at = now
            known.whole_at = now if whole else known.whole_at
            if not self._mine:
                known.since = max(known.since, clock.now() - _NEWS)
            known.thread = threading.Thread(
                target=self._look, args=(cloud, known, hints), kwargs={"whole": whole},
                name=f"cloud-{cloud.name}", daemon=True,
            )  # fmt: skip
            known.thread.start()

    def _look(self, cloud: Cloud, known: _Known, hints: set[str], *, whole: bool) -> None:
        began = clock.now()
        try:
            if whole:
                look_at_cloud(self._estate, cloud.id, check=self._check_turn)
            else:
                self._quickly(cloud, known, hints)
        except Cancelled:
            self._again(known, hints, whole=whole)
        except SendenseError as error:
            if not known.failing and not self._stop.is_set():
                log.warning("cloud %s: %s", cloud.name, error)
            self._again(known, hints, whole=whole, failing=True)
        except Exception:
            if not self._stop.is_set():
                log.exception("the look at cloud %s stumbled; it goes on soon", cloud.name)
            self._again(known, hints, whole=whole, failing=True)
        else:
            if known.failing:
                log.info("cloud %s answers again", cloud.name)
            known.since, known.failing = began, False
        finally:
            with self._lock:
                known.busy = False

    def _again(self, known: _Known, hints: set[str], *, whole: bool, failing: bool = False) -> None:
        """Come back soon, with the same hints; not only after the whole time again."""
        with self._lock:
            now = clock.monotonic()
            known.hints |= hints
            known.failing = known.failing or failing
            known.not_before = now + min(self._soon_s, _PAUSE_S)
            if whole:
                known.whole_at = now - self._whole_s + self._soon_s

    def _quickly(self, cloud: Cloud, known: _Known, hints: set[str]) -> None:
        """Look at what hints name, then at what events speak of, where the key may see them."""
        hinted = hints - {""}
        if hinted:
            look_at_instances(self._estate, cloud.id, hinted, check=self._check)
        if not (self._mine or "" in hints):
            return
        if not self._estate.cloud(cloud.id).features().has("listEvents"):
            return
        uuids = instances_in_events(self._estate, cloud.id, known.since, check=self._check) - hinted
        if len(uuids) <= MOST_AT_ONCE:
            if uuids:
                look_at_instances(self._estate, cloud.id, uuids, check=self._check)
        elif self._mine:
            look_at_cloud(self._estate, cloud.id, check=self._check_turn)

    def _check(self) -> None:
        if self._stop.is_set():
            raise Cancelled("the server stops")

    def _check_turn(self) -> None:
        self._check()
        if not self._mine:
            raise Cancelled("another server looks at clouds now")
