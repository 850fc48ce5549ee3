"""Events: what happened, to be listed, and to be sent to who asked for it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from sendense_lab.simulator.records import Account, Domain, Event, User
from sendense_lab.simulator.shapes import Fields, name_of, set_fields, when
from sendense_lab.simulator.world import World

KEPT = 50_000

ENTITIES = {
    "VirtualMachine": "com.cloud.vm.VirtualMachine",
    "Volume": "com.cloud.storage.Volume",
    "Snapshot": "com.cloud.storage.Snapshot",
    "VMSnapshot": "com.cloud.vm.snapshot.VMSnapshot",
    "Host": "com.cloud.host.Host",
}


class Events:
    """The log of a management server."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._log: deque[Event] = deque(maxlen=KEPT)
        self.listeners: list[Callable[[Event], None]] = []

    def add(  # noqa: PLR0913 - an event is its facts
        self, kind: str, words: str, *, account_id: str, user_id: str = "",
        about: tuple[str, str] = ("", ""), state: str = "Completed", level: str = "INFO",
        resource: str = "", parent: str = "",
    ) -> Event:  # fmt: skip
        """Write down that something happened, and tell who listens."""
        with self.world.changed:
            event = Event(
                kind=kind, description=words, state=state, level=level, account_id=account_id,
                user_id=user_id, resource_kind=about[0], resource_id=about[1],
                resource_name=resource, parent_id=parent, created=self.world.now(),
            )  # fmt: skip
            self._log.append(event)
            self.world.changed.notify_all()
        for listener in self.listeners:
            listener(event)
        return event

    def newest_first(self) -> list[Event]:
        """Give all that are kept."""
        with self.world.lock:
            return list(reversed(self._log))

    def purge(self) -> None:
        """Forget all, as a server does after `event.purge.delay`."""
        with self.world.lock:
            self._log.clear()


def shape(world: World, event: Event) -> Fields:
    """Show an event."""
    account = world.get(Account, event.account_id)
    domain = world.get(Domain, account.domain_id)
    return set_fields({
        "id": event.id,
        "type": event.kind,
        "level": event.level,
        "description": event.description,
        "state": event.state,
        "username": name_of(world.find(User, event.user_id)) or "system",
        "account": account.name,
        "domainid": domain.id,
        "domain": domain.name,
        "domainpath": domain.path if world.since("4.19") else "",
        "created": when(event.created),
        "parentid": event.parent_id,
        "resourceid": event.resource_id,
        "resourcetype": event.resource_kind,
        "resourcename": event.resource_name,
        "archived": False,
    })  # fmt: skip


def description(event: Event) -> dict[str, object]:
    """Give an event as the bus carries it, and as webhooks deliver it."""
    kind = event.resource_kind or "None"
    body: Fields = {
        "eventDateTime": event.created.strftime("%Y-%m-%d %H:%M:%S +0000"),
        "event": event.kind,
        "status": event.state,
        "description": event.description,
        "account": event.account_id,
        "user": event.user_id,
        "entity": ENTITIES.get(kind, kind),
        "entityuuid": event.resource_id,
        kind: event.resource_id,
    }
    return set_fields(body)
