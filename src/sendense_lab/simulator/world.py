"""The management server's database: tables of rows, its settings, its version and its clock.

All changes happen under `lock`. What a table is, is the class of its rows.
"""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import TypeVar, cast

from sendense_lab.simulator import records
from sendense_lab.simulator.records import (
    Account,
    Domain,
    Host,
    Instance,
    KeyPairOfUser,
    Pool,
    Project,
    Record,
    Role,
    User,
    Volume,
)

R = TypeVar("R", bound=Record)

RELEASES = {"4.19": (4, 19, 3), "4.18": (4, 18, 1)}
"""What a version without its third number stands for, where it is not `.0`."""


def release(text: str) -> tuple[int, ...]:
    """Read a version: `4.20` or `4.22.1`."""
    if text in RELEASES:
        return RELEASES[text]
    numbers = tuple(int(part) for part in text.split("."))
    return numbers + (0,) * (3 - len(numbers))


class World:
    """Everything that the API tells of."""

    def __init__(self, version: str = "4.20") -> None:
        self.version = version
        self.release = release(version)
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        """Told of every change by a job or an event, for those who wait."""
        self.clock_skew_s = 0.0
        self.settings: dict[str, str] = {
            "api.throttling.enabled": "false",
            "api.throttling.interval": "1",
            "api.throttling.max": "25",
            "default.page.size": "500",
            "enable.secure.session.cookie": "false",
            "enforce.post.requests.and.timestamps": "false",
            "incorrect.login.attempts.allowed": "5",
            "instance.name": "VM",
            "job.expire.minutes": "1440",
            "kvm.snapshot.enabled": "true" if self.since("4.22") else "false",
            "kvm.vmstoragesnapshot.enabled": "true" if self.since("4.22") else "false",
            "list.vm.default.details.stats": "true",
            "mandate.user.2fa": "false",
            "vmsnapshot.max": "10",
            "webhook.deliveries.limit": "10",
            "webhook.delivery.retries": "3",
            "webhook.delivery.timeout": "10",
        }
        self.management_id = records.new_id()
        self.guest_agents = True
        """Whether a guest agent answers in the instances: what freezes needs one."""
        self._tables: dict[type[Record], dict[str, Record]] = {}
        self._numbers = itertools.count(1)
        self._keys: dict[str, KeyPairOfUser] = {}
        self.root = self.add(Domain(name="ROOT", path="ROOT"))

    @property
    def full_version(self) -> str:
        """Give the version as servers write it: four numbers."""
        return ".".join(str(part) for part in (*self.release, 0))

    def since(self, version: str) -> bool:
        """Tell whether this server is of a version, or newer."""
        return self.release >= release(version)

    def now(self) -> datetime:
        """Give the time on this server's clock."""
        return datetime.now(UTC) + timedelta(seconds=self.clock_skew_s)

    def is_set(self, setting: str) -> bool:
        """Tell whether a setting is true."""
        return self.settings.get(setting) == "true"

    # Rows

    def table(self, kind: type[R]) -> dict[str, R]:
        """Give all rows of a kind by id, in the order they were made in."""
        return cast("dict[str, R]", self._tables.setdefault(kind, {}))

    def all(self, kind: type[R]) -> list[R]:
        """Give the rows of a kind."""
        return list(self.table(kind).values())

    def get(self, kind: type[R], key: str) -> R:
        """Give a row that must be there."""
        return self.table(kind)[key]

    def find(self, kind: type[R], key: str) -> R | None:
        """Give a row, if there is one."""
        return self.table(kind).get(key)

    def named(self, kind: type[R], name: str) -> R:
        """Give the row with a name: for tests, which know what they made."""
        return next(row for row in self.all(kind) if row.name == name)

    def add(self, row: R) -> R:
        """Take a new row."""
        with self.lock:
            row.db_id = row.db_id or next(self._numbers)
            self.table(type(row))[row.id] = row
        return row

    def remove(self, row: Record) -> None:
        """Drop a row; one that is gone already is no error."""
        with self.lock:
            self.table(type(row)).pop(row.id, None)
            if isinstance(row, KeyPairOfUser):
                self._keys.pop(row.api_key, None)

    # People

    def add_key(self, user: User, name: str = "") -> KeyPairOfUser:
        """Make a key pair for a user; before 4.23 it takes the place of the one that was."""
        with self.lock:
            if not self.since("4.23"):
                for pair in self.keys_of(user):
                    self.remove(pair)
            pair = KeyPairOfUser(
                user_id=user.id,
                name=name,
                api_key=secrets.token_urlsafe(64),
                secret=secrets.token_urlsafe(64),
            )
            self._keys[pair.api_key] = pair
            return self.add(pair)

    def key(self, api_key: str) -> KeyPairOfUser | None:
        """Find a key pair."""
        return self._keys.get(api_key)

    def keys_of(self, user: User) -> list[KeyPairOfUser]:
        """Give the key pairs of a user."""
        return [pair for pair in self.all(KeyPairOfUser) if pair.user_id == user.id]

    def role_named(self, name: str) -> Role:
        """Find a role that must be there."""
        return self.named(Role, name)

    def domain_tree(self, top: Domain) -> set[str]:
        """Give the ids of a domain and of all below."""
        return {
            domain.id
            for domain in self.all(Domain)
            if domain.id == top.id or domain.path.startswith(f"{top.path}/")
        }

    def account_named(self, name: str, domain_id: str) -> Account | None:
        """Find an account; accounts of projects have no name that one can ask by."""
        for account in self.all(Account):
            if (
                (account.name, account.domain_id) == (name, domain_id)
                and account.kind != 5
                and (account.state != "removed")
            ):
                return account
        return None

    def owner_of(self, project: Project) -> Account:
        """Give the account that owns what a project owns."""
        return self.get(Account, project.account_id)

    # Machines

    def volumes_of(self, instance: Instance) -> list[Volume]:
        """Give the volumes of an instance, by device id."""
        volumes = [self.get(Volume, key) for key in instance.volume_ids]
        return sorted(volumes, key=lambda volume: volume.device_id or 0)

    def root_of(self, instance: Instance) -> Volume | None:
        """Give the root volume of an instance; none while it is detached."""
        return next((one for one in self.volumes_of(instance) if one.kind == "ROOT"), None)

    def host_named(self, name: str) -> Host:
        """Find a host that must be there."""
        return self.named(Host, name)

    def pools_for(self, host: Host | None) -> Iterator[Pool]:
        """Give the pools that a host can use, shared ones first."""
        pools = sorted(self.all(Pool), key=lambda pool: bool(pool.host))
        return (
            pool
            for pool in pools
            if pool.state == "Up" and (not pool.host or host is None or pool.host == host.name)
        )

    def next_mac(self) -> str:
        """Give a MAC address as CloudStack makes them."""
        number = next(self._numbers)
        return f"02:01:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"

    def of_account(self, kind: type[records.Owned], account: Account) -> Iterable[records.Owned]:
        """Give what an account owns of a kind."""
        return (row for row in self.table(kind).values() if row.account_id == account.id)
