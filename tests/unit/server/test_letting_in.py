"""Who the gateway lets in is who is enrolled, however many ask for it at once."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

from sendense.model.fleet import Host
from sendense.server.control_plane import ControlPlane
from sendense.server.settings import ServerSettings
from sendense.settings import Settings
from tests.support.fleet import a_host

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI"


class SlowGateway:
    """Stands for a gateway, as the order of two calls cannot be held in a real one."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.lists: list[list[str]] = []

    def set_keys(self, keys: Any) -> None:
        self.entered.set()
        if not self.lists:
            assert self.go_on.wait(30)
        self.lists.append([key.agent_id for key in keys])


def test_a_list_read_before_a_revocation_is_not_set_after_it(tmp_path):
    enrolled: list[Host] = [
        a_host(name, public_key=KEY + name, control_port=port, data_ports=(port + 1,))
        for name, port in (("a", 100), ("b", 200))
    ]
    plane = ControlPlane(ServerSettings(state_dir=tmp_path), Settings())
    gateway = SlowGateway()
    plane.gateway = cast(Any, gateway)
    hosts = SimpleNamespace(enrolled=lambda: tuple(enrolled))
    plane.estate = cast(Any, SimpleNamespace(catalog=SimpleNamespace(hosts=hosts)))
    first = threading.Thread(target=plane.let_in)
    first.start()
    assert gateway.entered.wait(30)
    enrolled.pop(0)
    second = threading.Thread(target=plane.let_in)
    second.start()
    second.join(0.2)
    assert second.is_alive()
    gateway.go_on.set()
    for thread in (first, second):
        thread.join(30)
    assert gateway.lists == [["id-a", "id-b"], ["id-b"]]
