"""Policies: which instances are backed up, when, to where, and what is kept."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import translate
from functools import cached_property, lru_cache
from re import Pattern
from typing import Optional

from sendense.errors import Rejected
from sendense.model.fleet import InstanceName
from sendense.model.periods import UTC
from sendense.model.point import Consistency
from sendense.model.retention import KeepRules
from sendense.model.schedule import Timetable


@dataclass(frozen=True)
class MatchRules:
    """Which instances a policy takes: those of the list, and those that fit each kind given.

    Of a kind any pattern may fit.  Patterns are those of a shell, and case matters; what an
    instance has not (a project, a cloud) fits none.
    """

    names: tuple[str, ...] = ()
    """Of the name that the hypervisor has, or of either name in the cloud: ``web-*``."""
    hosts: tuple[str, ...] = ()
    """Ids of hosts."""
    instances: tuple[str, ...] = ()
    """UUIDs; they are taken whatever else is said, save for what is left out."""
    except_names: tuple[str, ...] = ()
    """Patterns of names that are left out."""
    clouds: tuple[str, ...] = ()
    """Patterns of names of clouds, or their ids."""
    zones: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    """Patterns of the path of the owner's domain: ``ROOT/acme``, ``ROOT/acme/*``."""
    accounts: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    """``key`` for any value, or ``key=value``."""
    offerings: tuple[str, ...] = ()
    except_tags: tuple[str, ...] = ()
    """Tags of what is left out, as in ``tags``."""

    def match(self, instance: InstanceName) -> bool:
        """Tell whether an instance is taken."""
        if instance.own_of or self._left_out(instance):
            return False
        if instance.uuid in self.instances:
            return True
        return bool(self._given) and self._wanting(instance) is None

    def would_match(self, instance: InstanceName) -> bool:
        """Tell whether an instance is left out only because it is a cloud's own machine."""
        return bool(instance.own_of) and self.match(replace(instance, own_of=""))

    def explain(self, instance: InstanceName) -> str:
        """Say why an instance is taken, or is not."""
        if instance.own_of:
            return (
                f"left out: CloudStack ({instance.own_of}) makes it for itself, and makes it again"
                " where it is lost"
            )
        if left_out := self._left_out(instance):
            kind = left_out.removeprefix("except_")
            return f"left out: {_shown(instance, kind)} fits {_any_of(getattr(self, left_out))}"
        if instance.uuid in self.instances:
            return "taken: it is on the list of instances"
        if not self._given:
            return "not taken: it is not on the list of instances, and no patterns are given"
        wanting = self._wanting(instance)
        if wanting is not None:
            patterns = _any_of(getattr(self, wanting))
            return f"not taken: {_shown(instance, wanting)} does not fit {patterns}"
        fits = (f"{_shown(instance, kind)} fits {_any_of(each)}" for kind, each in self._given)
        return f"taken: {', and '.join(fits)}"

    @cached_property
    def _given(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """The kinds that have patterns; read once, for it is asked of tens of thousands."""
        kinds = ((kind, getattr(self, kind)) for kind in _KINDS)
        return tuple((kind, patterns) for kind, patterns in kinds if patterns)

    def _left_out(self, instance: InstanceName) -> Optional[str]:
        for kind in ("except_names", "except_tags"):
            patterns = getattr(self, kind)
            if patterns and _fits(kind.removeprefix("except_"), patterns, instance):
                return kind
        return None

    def _wanting(self, instance: InstanceName) -> Optional[str]:
        """Name the first kind that an instance does not fit."""
        for kind, patterns in self._given:
            if not _fits(kind, patterns, instance):
                return kind
        return None


_KINDS = {
    "names": "its name",
    "hosts": "its host",
    "clouds": "its cloud",
    "zones": "its zone",
    "domains": "its domain",
    "accounts": "its account",
    "projects": "its project",
    "tags": "its tag",
    "offerings": "its offering",
}
"""What is matched, and how it is called."""


def _fits(kind: str, patterns: tuple[str, ...], instance: InstanceName) -> bool:
    if kind == "hosts":
        return instance.host_id in patterns
    if kind == "tags":
        return _tags_fit(patterns, instance)
    fits = _compiled(patterns).match
    return any(value and fits(value) for value in _values(kind, instance))


def _tags_fit(patterns: tuple[str, ...], instance: InstanceName) -> bool:
    if instance.cloud is None or not instance.cloud.tags:
        return False
    keys = tuple(pattern for pattern in patterns if "=" not in pattern)
    pairs = tuple(pattern for pattern in patterns if "=" in pattern)
    tags = instance.cloud.tags
    return bool(
        (keys and any(map(_compiled(keys).match, tags)))
        or (pairs and any(map(_compiled(pairs).match, _pairs(tags))))
    )


def _values(kind: str, instance: InstanceName) -> tuple[str, ...]:
    """Give what patterns of a kind are compared with; what is empty fits none."""
    cloud = instance.cloud
    if kind == "names":
        return (instance.name,) if cloud is None else (instance.name, cloud.name, cloud.other_name)
    if kind == "hosts":
        return (instance.host_id or "",)
    if cloud is None:
        return ()
    if kind == "clouds":
        return (cloud.cloud, cloud.cloud_id)
    if kind == "tags":
        return tuple(_pairs(cloud.tags))
    return (getattr(cloud, kind.removesuffix("s")),)


def _pairs(tags: Mapping[str, str]) -> Iterable[str]:
    return (f"{key}={value}" for key, value in tags.items())


def _shown(instance: InstanceName, kind: str) -> str:
    values = ", ".join(value for value in _values(kind, instance) if value)
    return f"{_KINDS[kind]} ({values or 'none'})"


def _any_of(patterns: tuple[str, ...]) -> str:
    shown = ", ".join(patterns[:_MOST_SHOWN])
    more = len(patterns) - _MOST_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


_MOST_SHOWN = 10


@lru_cache(maxsize=1024)
def _compiled(patterns: tuple[str, ...]) -> Pattern[str]:
    # One expression for all: tens of thousands of instances are matched for each status screen.
    return re.compile("|".join(translate(pattern) for pattern in patterns))


@dataclass(frozen=True)
class PolicyRules:
    """What a policy says; its name and place are in :class:`Policy`."""

    repository_id: str
    schedule: str
    """Cron's five fields, or ``@daily`` and the like."""
    keep: KeepRules
    match: MatchRules
    timezone: str = UTC
    """Of the schedule, the window and the blackout dates."""
    consistency: Consistency = Consistency.FILESYSTEM
    full_every: int = 0
    """Every how many points one is read in full; 0: only where there is a reason."""
    window: Optional[str] = None
    """``22:00-06:00``: jobs begin only inside it."""
    blackout_dates: tuple[str, ...] = ()
    """ISO dates on which nothing begins."""
    jitter: timedelta = timedelta(0)
    """Starts are spread over this span, by instance."""
    sla: Optional[timedelta] = None
    """The newest good point may be so old; older ones are reported as late."""
    priority: int = 0
    beside_cloudstack: bool = False
    """Back up also instances that CloudStack's own backup offering backs up."""
    keep_bitmaps: bool = True
    """Keep dirty bitmaps in the images; without them each backup reads all, and compares."""

    def __post_init__(self) -> None:
        """Refuse what can never be meant."""
        _ = self.times
        if self.full_every < 0 or self.jitter < timedelta(0):
            raise Rejected("full_every and jitter cannot be negative")
        if self.sla is not None and self.sla <= timedelta(0):
            raise Rejected("an SLA is a span of more than nothing")

    @property
    def times(self) -> Timetable:
        """Give what it says of times, read."""
        return Timetable.read(
            self.schedule, self.timezone, self.window, self.blackout_dates, self.jitter
        )


@dataclass(frozen=True)
class Policy:
    """One policy."""

    id: str
    name: str
    enabled: bool
    rules: PolicyRules
    created_at: datetime
    updated_at: datetime


def matching(policies: Iterable[Policy], instance: InstanceName) -> tuple[Policy, ...]:
    """Give the enabled policies that take an instance."""
    return tuple(each for each in policies if each.enabled and each.rules.match.match(instance))
