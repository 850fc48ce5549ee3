"""What runs inside nbdkit: its callbacks, each of a few lines.

nbdkit loads this file as a script into the interpreter of the distribution, and calls what is
here by its name, from any of its threads.  ``nbdkit`` is a module that only exists in there.

Until it serves, nbdkit's own messages go where the command finds them.  Afterwards they are of
no use: nbdkit writes a traceback for every request that fails, and what failed is in our log.
"""

from __future__ import annotations

import json
import os
import resource
import sys

import nbdkit

from sendense import log
from sendense.errors import SendenseError, Unavailable
from sendense.serving.connections import end_on_signal
from sendense.serving.handover import Handover
from sendense.serving.processes import outlive_parent
from sendense.serving.served import Export, Served
from sendense.units import KIB, MIB

API_VERSION = 2

_PREFERRED = 64 * KIB
_LARGEST = 32 * MIB
_SWITCH_S = 0.0005


class _State:
    """What the callbacks share."""

    handover: Handover | None = None
    served: Served | None = None


# --- starting and ending ---


def config(key: str, value: str) -> None:
    """Take the one argument."""
    if key != "handover":
        raise ValueError(f"{key} is no argument")
    # A dump of this process would hold the keys of the repository.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _State.handover = Handover.take_up(int(value))


def config_complete() -> None:
    """Refuse to run without."""
    if _State.handover is None:
        raise ValueError("this is started by 'sendense mount'")


def thread_model() -> int:
    """Let requests run beside each other."""
    return int(nbdkit.THREAD_MODEL_PARALLEL)


def after_fork() -> None:
    """Open the point, and say so, or why not."""
    handover = _State.handover
    if handover is None:
        raise ValueError("nothing was handed over")
    _State.handover = None
    if handover.detached:
        outlive_parent()
    end_on_signal(nbdkit.shutdown)
    sys.stderr = os.fdopen(handover.log_fd, "w", buffering=1, encoding="utf-8", errors="replace")
    log.configure(level=handover.log_level, syslog=handover.syslog)
    with os.fdopen(handover.ready_fd, "w", encoding="utf-8") as ready:
        try:
            with log.context(f"mount {handover.point}"):
                _State.served = Served(handover)
        except SendenseError as error:
            ready.write(json.dumps({"error": error.to_dict()}) + "\n")
            raise
        except OSError as error:
            ready.write(json.dumps({"error": Unavailable(str(error)).to_dict()}) + "\n")
            raise
        ready.write(json.dumps({"ready": os.getpid()}) + "\n")
    # Threads of nbdkit wait for the interpreter behind those that decrypt: 5 ms, the default, is
    # as long as twenty requests take (measured: 850 against 670 MiB/s on four connections).
    sys.setswitchinterval(_SWITCH_S)
    _silence()


def _silence() -> None:
    """Let nbdkit's messages go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def cleanup() -> None:
    """Give the point back; no request is under way any more."""
    served, _State.served = _State.served, None
    if served is not None:
        served.close()


def _served() -> Served:
    if _State.served is None:
        raise OSError("the server ends")
    return _State.served


# --- connections ---


def list_exports(readonly: bool, is_tls: bool) -> list[tuple[str, str]]:
    """Name all disks."""
    return [(item.name, item.path) for item in _served().exports.values()]


def default_export(readonly: bool, is_tls: bool) -> str:
    """Name the disk that is meant where none is named."""
    return _served().default


def open(readonly: bool) -> Export:  # noqa: A001 - nbdkit calls it by this name
    """Begin a connection."""
    try:
        return _served().export(nbdkit.export_name())
    except OSError as error:
        nbdkit.set_error(error.errno)
        raise


def export_description(export: Export) -> str:
    """Say what the disk was on its host."""
    return export.path


def get_size(export: Export) -> int:
    """Give the size of the disk."""
    return export.size


def block_size(_export: Export) -> tuple[int, int, int]:
    """Give the least, the best and the largest request."""
    return 1, _PREFERRED, _LARGEST


def is_rotational(_export: Export) -> bool:
    """Tell clients not to sort their requests."""
    return False


def can_multi_conn(_export: Export) -> bool:
    """Allow several connections: all see the same."""
    return True


def can_extents(_export: Export) -> bool:
    """Offer to say what is zero."""
    return True


def can_cache(_export: Export) -> int:
    """Offer no prefetching: we read ahead by ourselves."""
    return int(nbdkit.CACHE_NONE)


def can_write(export: Export) -> bool:
    """Tell whether there is an overlay."""
    return export.writable


can_flush = can_trim = can_zero = can_fast_zero = can_write


def can_fua(_export: Export) -> int:
    """Accept it: nothing that is written is meant to last."""
    return int(nbdkit.FUA_NATIVE)


# --- requests ---


def pread(export: Export, buffer: memoryview, offset: int, flags: int) -> None:
    """Read."""
    try:
        buffer[:] = export.read(offset, len(buffer))
    except OSError as error:
        nbdkit.set_error(error.errno)
        raise


def extents(export: Export, count: int, offset: int, flags: int) -> list[tuple[int, int, int]]:
    """Say what is zero."""
    zero = nbdkit.EXTENT_HOLE | nbdkit.EXTENT_ZERO
    try:
        found = export.extents(offset, count)
    except OSError as error:
        nbdkit.set_error(error.errno)
        raise
    return [(item.start, item.end - item.start, zero if item.zero else 0) for item in found]


def pwrite(export: Export, buffer: memoryview, offset: int, flags: int) -> None:
    """Write into the overlay."""
    try:
        export.write(offset, buffer)
    except OSError as error:
        nbdkit.set_error(error.errno)
        raise


def zero(export: Export, count: int, offset: int, flags: int) -> None:
    """Make a range zero in the overlay."""
    try:
        export.zero(offset, count)
    except OSError as error:
        nbdkit.set_error(error.errno)
        raise


trim = zero


def flush(_export: Export, flags: int) -> None:
    """Do nothing: what is written is dropped at the end."""
