"""Threads that work beside the way of the data, and step back for it.

Data comes from a socket that holds 200 KiB (of QEMU, of ``qemu-nbd``), or goes to a file from one
thread.  Where that waits for a processor, all else waits soon; where hashing, encrypting or
uploading waits, there are buffers for it.  So the latter run at a lower priority.  With 2 GiB on
two cores, in turns, medians of 4 and 5, beside ``nbdcopy`` of the same round: a first backup
0.73 -> 0.80, the same again 1.38 -> 1.54, a restore 0.82 -> 0.98 times its speed.  It is also what
the machine's other users would ask for: a guest on the same host comes first.
"""

from __future__ import annotations

import logging
import os
import threading
from concurrent.futures import ThreadPoolExecutor

log = logging.getLogger(__name__)

_STEPS = 5
"""Of ``nice``: a third of the weight of who does not step back.  10 was no better."""
_LOWEST = 19


def side_threads(count: int, name: str) -> ThreadPoolExecutor:
    """Give a pool of so many threads of lower priority; ``name`` begins theirs."""
    return ThreadPoolExecutor(count, thread_name_prefix=name, initializer=_step_back)


def _step_back() -> None:
    """Lower the priority of this thread alone: Linux keeps one for each (setpriority(2), Notes)."""
    thread = threading.get_native_id()
    try:
        lower = min(_LOWEST, os.getpriority(os.PRIO_PROCESS, thread) + _STEPS)
        os.setpriority(os.PRIO_PROCESS, thread, lower)
    except PermissionError as error:
        # A filter of system calls may forbid it: then it works all the same, only not as well.
        log.debug("the priority of thread %d stays: %s", thread, error)
