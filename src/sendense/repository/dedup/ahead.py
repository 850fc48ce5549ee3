"""Things done at once: many small ones, their results in order; or one beside another.

What a store across a network takes its time for is hardly ever work, so requests that do not need
each other's answers are not made one after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(work: Callable[[T], R], items: Iterable[T], *, threads: int) -> Iterator[R]:
    """Give what ``work`` makes of each item, in their order; up to ``threads`` are under way.

    What ``work`` raises is raised where its result would come.
    """
    pending: deque[Future[R]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        try:
            for item in items:
                pending.append(pool.submit(copy_context().run, work, item))
                while len(pending) > threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def beside(work: Callable[[], R]) -> Iterator[Callable[[], R]]:
    """Do ``work`` while the block runs; what the block is given waits for its result.

    What ``work`` raises is raised where its result is asked for, and nowhere if it never is.  The
    block does not end before it.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="beside") as pool:
        yield pool.submit(copy_context().run, work).result
