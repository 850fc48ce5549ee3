"""Settings: from a YAML file, the environment and the command line, in that order.

The file is ``/etc/sendense/sendense.yaml``, or the one that ``SENDENSE_CONFIG``
names.  Every setting can be given as ``SENDENSE_<NAME>`` in the environment,
and an option of the command line wins over both.  A setting in the file
that does not exist is an error: a typing mistake must not leave the default in force in silence.
``docs/settings.md`` lists them all.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from sendense.capture.session import HostSettings
from sendense.errors import Rejected
from sendense.model.decision import RequestedMode
from sendense.model.point import Consistency
from sendense.units import parse_size

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


class Settings(BaseSettings):
    """All settings of the command line, with their defaults."""

    model_config = SettingsConfigDict(env_prefix="SENDENSE_", extra="forbid", frozen=True)

    uri: str = Field(default="qemu:///system", description="libvirt connection of the host")
    repository: str | None = Field(
        default=None, description="repository to use where none is named"
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
    compress: bool = Field(
        default=False, description="new repositories store zstd-compressed clusters"
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
            for said in [_MESSAGES.get(item["type"], item["msg"])]
        ]
        raise Rejected(
            f"settings are not usable: {'; '.join(lines)}",
            hint=f"mend the option, the SENDENSE_ variable or {_file()}; "
            "docs/settings.md lists all settings",
        ) from error


def _file() -> Path:
    return Path(os.environ.get("SENDENSE_CONFIG", DEFAULT_FILE))
