"""Settings of the control plane: from a YAML file and the environment, in that order.

The file is ``/etc/sendense/server.yaml``, or the one that ``SENDENSE_SERVER_CONFIG`` names.  Every
setting can be given as ``SENDENSE_SERVER_<NAME>``.  What is a decision of the operator about
backups (policies, repositories, users) is no setting: it is in the catalogue, and changed by the
API.  How a worker reads and stores is in the settings of the engine (``sendense.yaml``).
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

from sendense.errors import Rejected
from sendense.settings import file_refused

DEFAULT_FILE = Path("/etc/sendense/server.yaml")
_FILE_VARIABLE = "SENDENSE_SERVER_CONFIG"
_PREFIX = "SENDENSE_SERVER_"
_MESSAGES = {"extra_forbidden": "there is no such setting"}
_LIKE = 0.8
"""How much a name resembles another one when it is that, misspelt."""

_ADDRESS = r"(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)"
_ENDPOINT = rf"(?:tcp|udp)://(?:{_ADDRESS}|\[{_ADDRESS}\]):[0-9]{{1,5}}"
_OF_KUBERNETES = tuple(
    (re.compile(rf"{_PREFIX}(?:[A-Z0-9_]+_)?{name}"), re.compile(value))
    for name, value in (
        ("SERVICE_HOST", _ADDRESS),
        ("SERVICE_PORT(?:_[A-Z0-9_]+)?", "[0-9]{1,5}"),
        ("PORT", _ENDPOINT),
        ("PORT_[0-9]+_(?:TCP|UDP)", _ENDPOINT),
        ("PORT_[0-9]+_(?:TCP|UDP)_ADDR", _ADDRESS),
        ("PORT_[0-9]+_(?:TCP|UDP)_PORT", "[0-9]{1,5}"),
        ("PORT_[0-9]+_(?:TCP|UDP)_PROTO", "tcp|udp"),
    )
)
"""Names and values that Kubernetes puts into the environment of a pod for each service of its
namespace: a service ``sendense-server`` makes them begin as our settings do."""


class ServerSettings(BaseSettings):
    """All settings of the server and of workers, with their defaults."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", frozen=True)

    state_dir: Path = Field(
        default=Path("/var/lib/sendense/server"),
        description="catalogue, master key, keys of the gateway and of the certificate authority",
    )
    database: str = Field(
        default="", description="URL of the catalogue; none: SQLite in state_dir, for one machine"
    )
    listen: str = Field(default="127.0.0.1:8443", description="address and port of the API")
    tls_certificate: Path | None = Field(
        default=None, description="certificate chain of the API, PEM"
    )
    tls_key: Path | None = Field(default=None, description="its private key, PEM")
    insecure: bool = Field(
        default=False, description="serve the API without TLS on an address that others reach"
    )
    gateway_enabled: bool = Field(default=True, description="run the SSH gateway that agents dial")
    gateway_listen: str = Field(default="0.0.0.0:443", description="address and port of it")
    gateway_address: str = Field(
        default="", description="host and port that agents dial; none: this machine's name"
    )
    forward_address: str = Field(
        default="127.0.0.1",
        description="address of the gateway on which the ends of tunnels listen for workers",
    )
    forward_ports: str = Field(
        default="20000-29999", description="ports of the gateway for the ends of tunnels"
    )
    data_connections: int = Field(default=4, ge=1, le=16, description="data tunnels of each agent")
    embedded_worker: bool = Field(default=True, description="run jobs in the server itself")
    worker_jobs: int = Field(
        default=4, ge=1, le=64, description="jobs that one worker runs at once"
    )
    max_jobs: int = Field(default=20, ge=1, description="jobs that run at once in all")
    max_jobs_per_host: int = Field(default=4, ge=1, description="of them on one host")
    max_jobs_per_repository: int = Field(default=8, ge=1, description="of them into one repository")
    attempts: int = Field(default=3, ge=1, le=20, description="tries of a job in all")
    retry_pause_s: float = Field(
        default=30.0, gt=0, description="seconds before the second try; later ones wait longer"
    )
    worker_lease_s: float = Field(
        default=40.0,
        ge=3,
        description="seconds of silence after which a worker is dead, and its jobs go to others",
    )
    heartbeat_s: float = Field(
        default=15.0, gt=0, description="seconds between two questions to each agent"
    )
    cloud_whole_s: float = Field(
        default=900.0, gt=0, description="seconds between two looks at all that a cloud has"
    )
    cloud_quick_s: float = Field(
        default=60.0, gt=0, description="seconds between two looks at the events of a cloud"
    )
    cloud_login_hours: float = Field(
        default=12.0,
        ge=0,
        le=24 * 365,
        description="hours that a login with keys or a password of a cloud counts; 0: nobody logs "
        "in so",
    )
    # Off: a wrong password counts in the cloud, which disables its user after some, and the API
    # may be reached by more people than the cloud's own page is.
    cloud_login_passwords: bool = Field(
        default=False,
        description="take passwords of a cloud too, not keys alone: whoever reaches the API can "
        "then have users of the cloud disabled by wrong ones",
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
        """Take options, the environment and the file, and nothing else."""
        return (
            init_settings,
            env_settings,
            YamlConfigSettingsSource(settings_cls, yaml_file=_file()),
        )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        host, _ = address_of(self.listen)
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        if self.tls_certificate is None and not self.insecure and not _is_loopback(host):
            raise ValueError(
                f"listen: {host} is reached by others, so the API needs tls_certificate and "
                "tls_key, or a proxy before 127.0.0.1 (insecure: true if you must)"
            )
        address_of(self.gateway_listen)
        self.port_range()
        try:
            ipaddress.ip_address(self.forward_address)
        except ValueError:
            raise ValueError(
                f"forward_address: {self.forward_address!r} is no IP address such as 127.0.0.1"
            ) from None
        return self

    @property
    def database_url(self) -> str:
        """Give the URL of the catalogue."""
        return self.database or f"sqlite:///{self.state_dir / 'catalogue.db'}"

    def port_range(self) -> range:
        """Give the ports for the ends of tunnels."""
        first, dash, last = self.forward_ports.partition("-")
        if not (dash and first.isdigit() and last.isdigit() and 0 < int(first) < int(last) < 65536):
            raise ValueError(
                f"forward_ports: {self.forward_ports!r} is no range such as 20000-29999"
            )
        return range(int(first), int(last) + 1)


def address_of(text: str) -> tuple[str, int]:
    """Read ``host:port``."""
    host, colon, port = text.rpartition(":")
    if not (colon and port.isdigit() and int(port) < 65536):
        raise ValueError(f"{text!r} is no address such as 127.0.0.1:8443")
    return host.strip("[]"), int(port)


def load_server_settings(**options: Any) -> ServerSettings:
    """Read the settings; ``options`` that are none are left to the other sources."""
    _refuse_misspelt()
    given = {name: value for name, value in options.items() if value is not None}
    named = os.environ.get(_FILE_VARIABLE)
    if named and not Path(named).is_file():
        raise Rejected(
            f"the settings file {named} does not exist",
            hint=f"mend {_FILE_VARIABLE}, or write the file",
        )
    with file_refused(str(_file()), "docs/server.md lists all settings"):
        return _settings(given)


def _settings(given: dict[str, Any]) -> ServerSettings:
    try:
        return ServerSettings(**given)
    except ValidationError as error:
        lines = [
            f"{'.'.join(str(part) for part in item['loc'])}: {said}".removeprefix(": ")
            for item in error.errors()
            for said in [_MESSAGES.get(item["type"], item["msg"]).removeprefix("Value error, ")]
        ]
        raise Rejected(
            f"settings of the server are not usable: {'; '.join(lines)}",
            hint=f"mend the {_PREFIX} variable or {_file()}; docs/server.md lists all settings",
        ) from error


def _refuse_misspelt() -> None:
    """Refuse a variable that is no setting: it would leave a default in force in silence."""
    known = [_FILE_VARIABLE, *(f"{_PREFIX}{name.upper()}" for name in ServerSettings.model_fields)]
    for name, value in sorted(os.environ.items()):
        if not name.upper().startswith(_PREFIX) or _is_of_kubernetes(name, value):
            continue
        if name.upper() not in known:
            meant = difflib.get_close_matches(name.upper(), known, n=1, cutoff=_LIKE)
            raise Rejected(
                f"{name} is no setting of the server",
                hint=f"did you mean {meant[0]}?" if meant else "docs/server.md lists all settings",
            )


def _is_of_kubernetes(name: str, value: str) -> bool:
    return any(
        names.fullmatch(name) and values.fullmatch(value) for names, values in _OF_KUBERNETES
    )


def _file() -> Path:
    return Path(os.environ.get(_FILE_VARIABLE, DEFAULT_FILE))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
