"""What was used lately, up to a bound; the least recently used goes first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


def _one(_value: object) -> int:
    return 1


class Recent(Generic[K, V]):
    """Values by key, for many threads."""

    def __init__(self, most: int, weigh: Callable[[V], int] = _one) -> None:
        """Hold values that weigh ``most`` together; each weighs 1 where nothing else is said."""
        self._most = most
        self._weigh = weigh
        self._held: OrderedDict[K, V] = OrderedDict()
        self._weight = 0
        self._lock = threading.Lock()

    def get(self, key: K) -> V | None:
        """Give a value, if it is held."""
        with self._lock:
            value = self._held.get(key)
            if value is not None:
                self._held.move_to_end(key)
            return value

    def put(self, key: K, value: V) -> None:
        """Hold a value.  The newest is held whatever it weighs."""
        with self._lock:
            before = self._held.pop(key, None)
            self._weight += self._weigh(value) - (0 if before is None else self._weigh(before))
            self._held[key] = value
            while self._weight > self._most and len(self._held) > 1:
                self._weight -= self._weigh(self._held.popitem(last=False)[1])

    @property
    def weight(self) -> int:
        """Give what all that is held weighs."""
        return self._weight

    def __len__(self) -> int:
        return len(self._held)
