"""One request that was let in: who asks, and what for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from sendense_lab.simulator.catalogue import Body, Command
from sendense_lab.simulator.errors import bad
from sendense_lab.simulator.machines import Machines
from sendense_lab.simulator.parameters import Value
from sendense_lab.simulator.records import Account, Record, User
from sendense_lab.simulator.world import World

if TYPE_CHECKING:
    from sendense_lab.simulator.events import Events
    from sendense_lab.simulator.jobs import Jobs

R = TypeVar("R", bound=Record)
T = TypeVar("T")


@dataclass(frozen=True)
class Caller:
    """Whose key signed a request."""

    user: User
    account: Account
    key_rules: tuple[tuple[str, bool], ...] = ()

    @property
    def is_admin(self) -> bool:
        """Tell whether the account is of type Admin: it sees hosts, and everybody's rows."""
        return self.account.kind == 1


@dataclass
class Call:
    """A request, read and bound."""

    world: World
    machines: Machines
    jobs: Jobs
    caller: Caller
    command: Command
    args: dict[str, Value]
    given: Mapping[str, str]
    events: Events

    @property
    def full(self) -> bool:
        """Tell whether the answer shows hosts and paths."""
        return self.caller.is_admin

    def text(self, name: str, default: str = "") -> str:
        """Give a parameter that is text."""
        value = self.args.get(name, default)
        return value if isinstance(value, str) else default

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Give a parameter that is true or false."""
        value = self.args.get(name, default)
        return value if isinstance(value, bool) else default

    def number(self, name: str) -> int | None:
        """Give a parameter that is a number."""
        value = self.args.get(name)
        return value if isinstance(value, int) else None

    def words(self, name: str) -> list[str]:
        """Give a parameter that is a list of words."""
        value = self.args.get(name, [])
        return [part for part in value if isinstance(part, str)] if isinstance(value, list) else []

    def pairs(self, name: str) -> list[dict[str, str]]:
        """Give a parameter that is a numbered map."""
        value = self.args.get(name, [])
        return [part for part in value if isinstance(part, dict)] if isinstance(value, list) else []

    def mapping(self, name: str) -> dict[str, str]:
        """Give a numbered map as one, as `details` are meant."""
        return {key: value for pair in self.pairs(name) for key, value in pair.items()}

    def maybe(self, name: str, kind: type[R]) -> R | None:
        """Give the row that a parameter named, if it was sent."""
        value = self.args.get(name)
        return value if isinstance(value, kind) else None

    def one(self, name: str, kind: type[R]) -> R:
        """Give the row that a required parameter named."""
        row = self.maybe(name, kind)
        if row is None:
            raise bad(f"Please specify parameter {name}")
        return row

    def many(self, name: str, kind: type[R]) -> list[R]:
        """Give the rows that a list of ids named."""
        value = self.args.get(name, [])
        return [row for row in value if isinstance(row, kind)] if isinstance(value, list) else []

    def listing(self, key: str, rows: Iterable[T], shape: Callable[[T], Body]) -> Body:
        """Answer with one page of a list."""
        found = list(rows)
        start, end = page(self)
        shown = [shape(row) for row in found[start:end]]
        if not found:
            return {}
        return {"count": len(found), key: shown} if shown else {"count": len(found)}


def page(call: Call) -> tuple[int, int]:
    """Give the first and the last place of the page that was asked for."""
    number, size = call.number("page"), call.number("pagesize")
    limit = int(call.world.settings["default.page.size"])
    if size is None and number is not None:
        raise bad('"pagesize" parameter is required when "page" is specified')
    if size is not None and number is None and size != -1:
        raise bad('"page" parameter is required when "pagesize" is specified')
    if size == -1:
        if limit != -1:
            raise bad(f"pageSize -1 is not allowed: {limit} is the most")
        return 0, 1 << 62
    if size is None or number is None:
        return 0, limit if limit != -1 else 1 << 62
    if size < 1 or number < 1:
        raise bad(f"Invalid value for page {number} or pagesize {size}")
    if limit != -1 and size > limit:
        raise bad(f"Page size can not exceed max allowed page size {limit}")
    return (number - 1) * size, number * size
