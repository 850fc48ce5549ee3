"""What the agent watches on its host, beside libvirt: what would make the next backup fail.

Each thing is a judgement, a pure function of what was measured, which says in words what is
wrong and what mends it.  The measuring is done in threads of their own: a look at a scratch
directory on storage that hangs never comes back, and that is itself an answer.  So a heartbeat
waits for nothing.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Callable, Optional

from sendense import clock
from sendense.agent.certificate import judge_certificate
from sendense.agent.settings import AgentSettings
from sendense.capture.probe import examine_host
from sendense.model.agent_status import HealthCheck, Level
from sendense.model.finding import Finding
from sendense.model.finding import Level as FindingLevel
from sendense.units import MIB, format_size

log = logging.getLogger(__name__)

MEMORY_MOST = 256 * MIB
"""What the unit allows; an agent that needs more is ended."""

_QUICK_S = 10.0
_THOROUGH_S = 60.0
_SILENT_S = 30.0
"""How much later than it was due an answer may come."""

_COMFORTABLE = 10
"""Times the reserve that a busy guest may overwrite before a backup ends."""
_BUSY = 2.0
"""Processes that want to run, for each CPU."""
_STALLED_PERCENT = 40.0
"""Of the last minute in which all work waited for storage."""

_PROBED = {
    "incremental": "qemu",
    "tools": "qemu",
    "rights": "qemu",
    "apparmor": "scratch",
    "selinux": "scratch",
    "socket-dir": "scratch",
    "scratch-dir": "scratch",
    "scratch-storage": "scratch",
}
"""Findings of the probe, and the check that tells them."""


@dataclass(frozen=True)
class Pressure:
    """How busy the host is."""

    load: float
    """Processes that run or want to, over the last minute."""
    cpus: int
    stalled_percent: Optional[float]
    """Of the last minute; nothing where the kernel does not measure it."""


class Watch:
    """Something that is measured in a thread of its own, again and again."""

    def __init__(
        self, name: str, measure: Callable[[], Iterable[HealthCheck]], every_s: float
    ) -> None:
        """Measure nothing yet."""
        self._name = name
        self._measure = measure
        self._every_s = every_s
        self._checks: tuple[HealthCheck, ...] = ()
        self._answered = clock.boottime()
        self._end = threading.Event()
        self._first = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch-{name}", daemon=True)

    def start(self) -> None:
        """Begin to measure."""
        self._thread.start()

    def stop(self) -> None:
        """Measure no more; one that hangs is left behind."""
        self._end.set()

    def wait_first(self, timeout_s: float) -> bool:
        """Wait until there is something to tell."""
        return self._first.wait(timeout_s)

    def checks(self) -> tuple[HealthCheck, ...]:
        """Tell what was measured last, or that it takes too long."""
        silent_s = clock.boottime() - self._answered
        if silent_s > self._every_s + _SILENT_S:
            return (hanging(self._name, silent_s),)
        return self._checks

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                self._checks = tuple(self._measure())
            except Exception as error:
                log.exception("the check %s failed", self._name)
                self._checks = (HealthCheck(self._name, Level.FAILED, f"cannot be told: {error}"),)
            self._answered = clock.boottime()
            self._first.set()
            self._end.wait(self._every_s)


class HostHealth:
    """The host, as a :class:`~sendense.agent.faces.HealthSource`."""

    def __init__(self, settings: AgentSettings) -> None:
        """Watch nothing yet."""
        self._settings = settings
        self._watches = (
            Watch("scratch", self._scratch, _QUICK_S),
            Watch("load", self._own, _QUICK_S),
            Watch("qemu", self._probed, _THOROUGH_S),
            Watch("certificate", self._certificate, _THOROUGH_S),
        )

    def start(self) -> None:
        """Begin to watch."""
        for watch in self._watches:
            watch.start()

    def stop(self) -> None:
        """Watch no more."""
        for watch in self._watches:
            watch.stop()

    def wait_first(self, timeout_s: float) -> bool:
        """Wait until all was looked at once."""
        return all(watch.wait_first(timeout_s) for watch in self._watches)

    def checks(self, settings: AgentSettings) -> tuple[HealthCheck, ...]:
        """Tell how the host is, one line for each thing: the worst that was found of it.

        From now on it is looked at with these settings.
        """
        self._settings = settings
        found = [check for watch in self._watches for check in watch.checks()]
        return worst_of_each(found)

    def _scratch(self) -> Iterable[HealthCheck]:
        settings = self._settings
        free = shutil.disk_usage(settings.scratch_dir).free
        yield judge_scratch(free, settings.scratch_reserve, settings.scratch_dir)

    def _own(self) -> Iterable[HealthCheck]:
        yield judge_load(read_pressure())
        yield judge_memory(resident_bytes(), MEMORY_MOST)

    def _certificate(self) -> Iterable[HealthCheck]:
        settings = self._settings
        if settings.transport == "tls" and settings.tls is not None:
            yield judge_certificate(settings.tls.certificates / "server-cert.pem")

    def _probed(self) -> Iterable[HealthCheck]:
        findings = examine_host(self._settings.host(), machines=False)
        for name in ("qemu", "scratch"):
            yield from told(name, [item for item in findings if _PROBED.get(item.check) == name])


class ClockHealth:
    """The host's clock beside the control plane's, as its requests tell that."""

    def __init__(self, *, kept: int = 16) -> None:
        """Know nothing of the control plane's clock yet."""
        self._lock = threading.Lock()
        self._offsets: deque[timedelta] = deque(maxlen=kept)

    def told(self, date: Optional[str]) -> None:
        """Remember the time that a request said it was; it may say none."""
        try:
            theirs = parsedate_to_datetime(date or "")
        except (TypeError, ValueError):
            return
        if theirs.tzinfo is not None:
            self.saw(theirs)

    def saw(self, theirs: datetime) -> None:
        """Remember what time it is for somebody else."""
        offset = theirs - clock.now()
        with self._lock:
            self._offsets.append(offset)

    def offset(self) -> Optional[timedelta]:
        """Give how far the control plane is ahead of this host.

        A request takes time to come, and its header has whole seconds; both make their clock look
        late, so the largest counts.
        """
        with self._lock:
            return max(self._offsets, default=None)

    def checks(self, settings: AgentSettings) -> tuple[HealthCheck, ...]:
        """Judge the difference."""
        return (judge_clock(self.offset(), timedelta(seconds=settings.clock_skew_s)),)


# -- judgements ----------------------------------------------------------------------


def judge_scratch(free: int, reserve: int, folder: Path) -> HealthCheck:
    """Judge the room for what guests overwrite while they are captured."""
    message = f"{format_size(free)} are free in {folder}"
    hint = f"free space in {folder}, or set scratch_dir to a larger local disk"
    if free < reserve:
        message = (
            f"{message}, less than scratch_reserve ({format_size(reserve)}): no capture begins"
        )
        return HealthCheck("scratch", Level.FAILED, message, hint)
    if free < reserve * _COMFORTABLE:
        message = f"{message}: a guest that writes a lot may end its capture"
        return HealthCheck("scratch", Level.WARNING, message, hint)
    return HealthCheck("scratch", Level.OK, message)


def judge_load(pressure: Pressure) -> HealthCheck:
    """Judge how busy the host is: a backup comes on top of it."""
    message = f"load {pressure.load:.1f} on {pressure.cpus} CPUs"
    if pressure.stalled_percent is not None:
        message += f", storage stalled {pressure.stalled_percent:.0f} % of the time"
    hint = "lower bandwidth_limit_mbps and max_concurrent_vms, or set a backup_window"
    stalled = (pressure.stalled_percent or 0.0) > _STALLED_PERCENT
    if stalled or pressure.load > _BUSY * pressure.cpus:
        return HealthCheck("load", Level.WARNING, message, hint)
    return HealthCheck("load", Level.OK, message)


def judge_memory(resident: int, most: int) -> HealthCheck:
    """Judge the agent's own memory."""
    message = f"the agent holds {format_size(resident)} of at most {format_size(most)}"
    if resident > most * 8 // 10:
        hint = "lower max_concurrent_exports; the agent is restarted when it reaches the limit"
        return HealthCheck("memory", Level.WARNING, message, hint)
    return HealthCheck("memory", Level.OK, message)


def judge_clock(offset: Optional[timedelta], tolerated: timedelta) -> HealthCheck:
    """Judge how far the clocks differ: tickets expire by this host's."""
    if offset is None:
        return HealthCheck("clock", Level.OK, "the control plane has not told its time yet")
    seconds = offset.total_seconds()
    if abs(seconds) <= 1.5:
        return HealthCheck("clock", Level.OK, "the same as the control plane's")
    side = "behind" if seconds > 0 else "ahead of"
    message = f"{abs(seconds):.0f} s {side} the control plane"
    hint = "have both set their clocks by NTP: 'timedatectl' tells whether this host does"
    if abs(offset) > tolerated:
        message += f", and {tolerated.total_seconds():.0f} s are tolerated"
        return HealthCheck("clock", Level.FAILED, message, hint)
    level = Level.WARNING if abs(offset) * 2 > tolerated else Level.OK
    return HealthCheck("clock", level, message, hint if level is Level.WARNING else None)


def told(name: str, findings: Iterable[Finding]) -> Iterable[HealthCheck]:
    """Give what a probe found as checks; what is well is one line."""
    well = []
    for finding in findings:
        if finding.level is FindingLevel.OK:
            well.append(finding.message)
            continue
        level = Level.FAILED if finding.level is FindingLevel.PROBLEM else Level.WARNING
        yield HealthCheck(name, level, finding.message, finding.fix)
    if well:
        yield HealthCheck(name, Level.OK, "; ".join(well))


def worst_of_each(checks: Iterable[HealthCheck]) -> tuple[HealthCheck, ...]:
    """Give one check for each name: the worst, and of equals the one that was told first."""
    ranks = {Level.OK: 0, Level.WARNING: 1, Level.FAILED: 2}
    worst: dict[str, HealthCheck] = {}
    for check in checks:
        known = worst.get(check.name)
        if known is None or ranks[check.level] > ranks[known.level]:
            worst[check.name] = check
    return tuple(worst.values())


def hanging(name: str, silent_s: float) -> HealthCheck:
    """Say that a look does not come back."""
    hint = "look for storage that hangs: 'cat /proc/pressure/io', 'df', 'dmesg'"
    message = f"a look at it has not come back for {silent_s:.0f} s"
    return HealthCheck(name, Level.FAILED, message, hint)


# -- measuring -----------------------------------------------------------------------


def read_pressure(proc: Path = Path("/proc")) -> Pressure:
    """Measure how busy the host is."""
    load = float((proc / "loadavg").read_text().split()[0])
    return Pressure(load, os.cpu_count() or 1, _stalled(proc / "pressure/io"))


def resident_bytes(proc: Path = Path("/proc")) -> int:
    """Measure what this process holds in memory."""
    for line in (proc / "self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


def _stalled(file: Path) -> Optional[float]:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        kind, *values = line.split()
        if kind == "full":
            return float(dict(value.split("=") for value in values)["avg60"])
    return None
