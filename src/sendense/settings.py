"""Settings: from a YAML file, the environment and the command line, in that order.

The file is ``/etc/sendense/sendense.yaml``, or the one that ``SENDENSE_CONFIG``
names.  Every setting can be given as ``SENDENSE_<NAME>`` in the environment,
and an option of the command line wins over both.  A setting in the file
that does not exist is an error: a typing mistake must not leave the default in force in silence.
``docs/settings.md`` lists them all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from sendense.capture.session import HostSettings
from sendense.errors import NotAllowed, Rejected
from sendense.model.decision import RequestedMode
from sendense.model.periods import find_zone
from sendense.model.point import Consistency
from sendense.model.retention import SAFETY_SPAN, KeepRules
from sendense.units import parse_size, parse_span

DEFAULT_FILE = Path("/etc/sendense/sendense.yaml")

_MESSAGES = {"extra_forbidden": "there is no such setting"}
"""Ours for what pydantic says in words of its own."""


def _size(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return parse_size(value)
    except Rejected as error:
        # As pydantic wants it: its own error then names the setting.
        raise ValueError(f"{error.message}; {error.hint}") from error


Size = Annotated[int, BeforeValidator(_size)]
"""Bytes, also written as ``64K`` or ``1.5G``."""


def _span(value: object) -> object:
    if value is None or isinstance(value, timedelta):
        return value
    try:
        return parse_span(str(value))
    except Rejected as error:
        raise ValueError(f"{error.message}; {error.hint}") from error


def _written(span: timedelta) -> str:
    hours = int(span.total_seconds() // 3600)
    return f"{hours // 24}d" if hours % 24 == 0 else f"{hours}h"


Span = Annotated[
    timedelta,
    BeforeValidator(_span),
    PlainSerializer(_written, return_type=str, when_used="json"),
]
"""A time, written as ``36h``, ``14d`` or ``8w``: a bare number would not say of what."""


def _zone(name: str) -> str:
    try:
        find_zone(name)
    except Rejected as error:
        raise ValueError(f"{error.message}; {error.hint}") from error
    return name


Zone = Annotated[str, AfterValidator(_zone)]
"""The IANA name of a time zone."""


class NamedRepository(BaseModel):
    """A repository that is called by a name, and what opens it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(min_length=1)
    passphrase_file: Path | None = None
    passphrase_command: str | None = None
    recovery_key_file: Path | None = None
    credentials_file: Path | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_url(cls, value: object) -> object:
        return {"url": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        secrets = (self.passphrase_file, self.passphrase_command, self.recovery_key_file)
        if sum(item is not None for item in secrets) > 1:
            raise ValueError(
                "name one of passphrase_file, passphrase_command and recovery_key_file"
            )
        return self


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _named(values: dict[str, NamedRepository]) -> dict[str, NamedRepository]:
    for name in values:
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name: use letters, digits, '.', '_' and '-'")
    return values


Repositories = Annotated[dict[str, NamedRepository], AfterValidator(_named)]
"""Repositories by the names that ``--repository`` takes."""


class Settings(BaseSettings):
    """All settings of the command line, with their defaults."""

    model_config = SettingsConfigDict(env_prefix="SENDENSE_", extra="forbid", frozen=True)

    uri: str = Field(default="qemu:///system", description="libvirt connection of the host")
    repository: str | None = Field(
        default=None, description="repository to use where none is named: a URL or a name"
    )
    repositories: Repositories = Field(default={}, description="repositories by name")
    passphrase_file: Path | None = Field(
        default=None, description="file with the passphrase of repositories that have one"
    )
    passphrase_command: str | None = Field(
        default=None, description="program that writes the passphrase to its standard output"
    )
    recovery_key_file: Path | None = Field(
        default=None, description="file with a recovery key, in the place of a passphrase"
    )
    credentials_file: Path | None = Field(
        default=None, description="YAML file with the credentials of object stores"
    )
    cache_dir: Path | None = Field(
        default=None, description="what makes opening a repository quick; it may be deleted"
    )
    mount_dir: Path | None = Field(
        default=None, description="sockets and records of the points that are mounted"
    )
    store_upload_limit: Size = Field(
        default=0, ge=0, description="bytes per second to all stores together; 0: no limit"
    )
    store_download_limit: Size = Field(
        default=0, ge=0, description="bytes per second from all stores together; 0: no limit"
    )
    store_patience: float = Field(
        default=300.0, gt=0, description="seconds for which a call to a store is tried again"
    )
    state_dir: Path = Field(
        default=Path("/var/lib/sendense"), description="journal of what is under way on this host"
    )
    socket_dir: Path = Field(
        default=Path("/var/lib/libvirt/qemu/sendense"),
        description="NBD sockets; QEMU's user must be able to create files there",
    )
    scratch_dir: Path = Field(
        default=Path("/var/lib/libvirt/qemu/sendense"),
        description="what the guest overwrites during a capture; local disk only",
    )
    scratch_reserve: Size = Field(
        default=1 << 30, ge=0, description="free space in scratch_dir that a capture never uses up"
    )
    agent_timeout: int = Field(
        default=10, ge=1, description="seconds the guest agent may take to answer"
    )
    granularity: Size = Field(
        default=65536,
        ge=512,
        le=1 << 20,
        description="bytes per bit of new dirty bitmaps, a power of 2",
    )
    max_bitmaps_per_vm: int = Field(
        default=3, ge=1, le=100, description="own bitmaps a disk may hold between runs"
    )
    mode: RequestedMode = Field(default=RequestedMode.AUTO, description="mode where none is named")
    consistency: Consistency = Field(
        default=Consistency.FILESYSTEM, description="consistency where none is named"
    )
    full_every: int = Field(
        default=0,
        ge=0,
        description="a full at the latest after this many points; 0: never by count",
    )
    sample_blocks: int = Field(
        default=16, ge=0, description="clean blocks re-read and compared per disk and incremental"
    )
    parallel_disks: int = Field(
        default=2, ge=1, le=16, description="disks of a machine read at once"
    )
    connections: int = Field(default=2, ge=1, le=16, description="NBD connections per disk")
    bandwidth_limit: Size = Field(
        default=0, ge=0, description="bytes per second for all disks of a run together; 0: no limit"
    )
    stall_timeout: float = Field(
        default=120.0, gt=0, description="seconds without a byte after which a run is given up"
    )
    compress: bool | None = Field(
        default=None, description="whether new repositories compress; dedup ones do, chains do not"
    )
    timezone: Zone = Field(
        default="UTC", description="time zone of retention, and of dates that are typed"
    )
    keep_last: int = Field(default=0, ge=0, description="points that 'prune' keeps: the newest")
    keep_hourly: int = Field(default=0, ge=0, description="the newest of so many hours")
    keep_daily: int = Field(default=0, ge=0, description="the newest of so many days")
    keep_weekly: int = Field(default=0, ge=0, description="the newest of so many ISO weeks")
    keep_monthly: int = Field(default=0, ge=0, description="the newest of so many months")
    keep_yearly: int = Field(default=0, ge=0, description="the newest of so many years")
    keep_within: Span | None = Field(default=None, description="all that are younger than this")
    keep_safety: Span = Field(
        default=SAFETY_SPAN, description="how long 'prune' keeps what undoes a restore"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: options, environment, file."""
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, _file())

    def keep_rules(self) -> KeepRules:
        """Give the rules of retention; an error where there are none."""
        return KeepRules(
            last=self.keep_last,
            hourly=self.keep_hourly,
            daily=self.keep_daily,
            weekly=self.keep_weekly,
            monthly=self.keep_monthly,
            yearly=self.keep_yearly,
            within=self.keep_within,
            safety=self.keep_safety,
            timezone=self.timezone,
        )

    def cache(self) -> Path | None:
        """Give the directory for caches; none where this user has no place for one."""
        if self.cache_dir is not None:
            return self.cache_dir
        if os.geteuid() == 0:
            return Path("/var/cache/sendense")
        named = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if named.is_absolute():
            return named / "sendense"
        try:
            return Path.home() / ".cache/sendense"
        except RuntimeError:
            return None

    def host(self) -> HostSettings:
        """Give what the capture needs to know of them."""
        return HostSettings(
            uri=self.uri,
            socket_dir=str(self.socket_dir),
            scratch_dir=str(self.scratch_dir),
            state_dir=str(self.state_dir),
            scratch_reserve_bytes=self.scratch_reserve,
            agent_timeout_s=self.agent_timeout,
            max_bitmaps_per_vm=self.max_bitmaps_per_vm,
        )


@contextmanager
def file_refused(name: str, where_to_look: str) -> Iterator[None]:
    """Turn what the YAML file ``name`` makes of reading settings into errors that name it."""
    hint = f"mend the file; {where_to_look}"
    try:
        yield
    except yaml.YAMLError as error:
        raise Rejected(
            f"the settings file {name} is not YAML: {_place(error)}", hint=hint
        ) from error
    except (AttributeError, TypeError, ValueError) as error:
        # What pydantic-settings makes of a file that is YAML, but no mapping or no UTF-8.
        raise Rejected(
            f"the settings file {name} is not a list of 'setting: value' lines ({error})", hint=hint
        ) from error
    except PermissionError as error:
        raise NotAllowed(f"the settings file {name} may not be read") from error


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    if mark is None:
        return problem
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def load_settings(**options: Any) -> Settings:
    """Read the settings; ``options`` that are none are left to the other sources."""
    given = {name: value for name, value in options.items() if value is not None}
    named = os.environ.get("SENDENSE_CONFIG")
    if named and not Path(named).is_file():
        raise Rejected(
            f"the settings file {named} does not exist",
            hint="mend SENDENSE_CONFIG, or write the file",
        )
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in item['loc'])}: {said}"
            for item in error.errors()
            for said in [_MESSAGES.get(item["type"], item["msg"]).removeprefix("Value error, ")]
        ]
        raise Rejected(
            f"settings are not usable: {'; '.join(lines)}",
            hint=f"mend the option, the SENDENSE_ variable or {_file()}; "
            "docs/settings.md lists all settings",
        ) from error


def _file() -> Path:
    return Path(os.environ.get("SENDENSE_CONFIG", DEFAULT_FILE))
