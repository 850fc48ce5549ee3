"""The simulator as others use it: a management server that runs as long as a `with` block."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from sendense_lab.simulator import commands_hosts, making, seed
from sendense_lab.simulator.api import Api
from sendense_lab.simulator.call import Call, Caller
from sendense_lab.simulator.catalogue import COMMANDS
from sendense_lab.simulator.events import Events
from sendense_lab.simulator.faults import Faults
from sendense_lab.simulator.jobs import Jobs
from sendense_lab.simulator.machines import Machines
from sendense_lab.simulator.paper import PaperMachines
from sendense_lab.simulator.records import (
    Account,
    Domain,
    Host,
    Instance,
    KeyPairOfUser,
    Network,
    Pool,
    ServiceOffering,
    Template,
)
from sendense_lab.simulator.registry import load
from sendense_lab.simulator.server import PATH, ApiServer
from sendense_lab.simulator.sessions import Sessions
from sendense_lab.simulator.webhooks import Deliveries
from sendense_lab.simulator.world import World


class Keys(NamedTuple):
    """What requests are signed with."""

    api_key: str
    secret: str


class Simulator:
    """A CloudStack management server in front of machines."""

    def __init__(
        self,
        machines: Machines | None = None,
        *,
        version: str = "4.20",
        job_s: float = 0.1,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        load()
        self.machines: Machines = machines if machines is not None else PaperMachines()
        self.world = World(version)
        self.world.settings.update(settings or {})
        self.faults = Faults()
        self.events = Events(self.world)
        self.jobs = Jobs(self.world, job_s)
        self.webhooks = Deliveries(self.world, self.faults)
        self.events.listeners.append(self.webhooks.tell)
        self.api = Api(self.world, self.machines, self.jobs, self.events)
        admin = seed.set_up(self.world, self.machines)
        self.admin_keys = _keys(admin)
        self._port = port
        self._tls = tls
        self._reserved = socket.socket()
        """Holds the port while nobody listens on it: who connects is refused."""
        self._server: ApiServer | None = None
        self._thread: threading.Thread | None = None

    # Running

    def __enter__(self) -> Self:
        """Begin to answer."""
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """End all connections, jobs and deliveries."""
        self.faults.clear()
        self.down()
        self.jobs.settle()
        self.webhooks.close()
        self._reserved.close()

    def up(self) -> None:
        """Listen, on the port that it had before."""
        if self._server is not None:
            return
        self._reserved.close()
        self._server = ApiServer(self._port, self.api, self.faults, self._tls)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), name="cloudstack-api", daemon=True
        )
        self._thread.start()

    def down(self) -> None:
        """Refuse connections, and end those that are open; jobs go on."""
        server, thread = self._server, self._thread
        if server is None or thread is None:
            return
        server.shutdown()
        thread.join()
        server.server_close()
        self._reserved = _reserve(self._port)
        server.cut()
        self._server = self._thread = None

    def restart(self) -> int:
        """Restart the management server: jobs in flight are lost; gives how many."""
        self.down()
        lost = self.jobs.restart()
        self.api.sessions.forget()
        self.api.read_settings()
        self.up()
        return lost

    @property
    def sessions(self) -> Sessions:
        """Give who is logged in."""
        return self.api.sessions

    @property
    def url(self) -> str:
        """Give the endpoint."""
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self._port}{PATH}"

    @property
    def version(self) -> str:
        """Give the version that it is of."""
        return self.world.version

    @property
    def clock_skew_s(self) -> float:
        """Give how far its clock is ahead."""
        return self.world.clock_skew_s

    @clock_skew_s.setter
    def clock_skew_s(self, seconds: float) -> None:
        self.world.clock_skew_s = seconds

    # What is in it

    def domain(self, path: str) -> Domain:
        """Give the domain of a path (`ROOT/customers/acme`), made as far as it is not there."""
        with self.world.lock:
            at = self.world.root
            for name in path.split("/")[1:]:
                below = [
                    one for one in self.world.all(Domain)
                    if one.parent_id == at.id and one.name == name
                ]  # fmt: skip
                at = below[0] if below else seed.add_domain(self.world, name, at)
            return at

    def create_account(
        self, name: str, *, domain: str = "ROOT", role: str = "User", password: str = ""
    ) -> Keys:
        """Make an account with a user and a key; the domain is made with it."""
        with self.world.lock:
            account = seed.add_account(self.world, name, self.domain(domain), role)
            seed.user_of(self.world, account).password = password
            return self.keys_of(account)

    def keys_of(self, account: Account) -> Keys:
        """Give the key of an account's first user."""
        user = seed.user_of(self.world, account)
        return _keys(self.world.keys_of(user)[0])

    def account(self, name: str, domain: str = "ROOT") -> Account:
        """Give an account that is there."""
        found = self.world.account_named(name, self.domain(domain).id)
        if found is None:
            raise KeyError(f"no account {name} in {domain}")
        return found

    def add_instance(  # noqa: PLR0913 - tests name what they care for
        self,
        name: str,
        *,
        account: Account | None = None,
        template: str = "",
        offering: str = "Tiny Instance",
        networks: Sequence[str] = ("shared1",),
        disks: Sequence[int] = (),
        running: bool = True,
        host: str = "",
        pool: str = "",
        root_size: int = 0,
        tags: Mapping[str, str] | None = None,
        details: Mapping[str, str] | None = None,
        user_data: str = "",
        display_name: str = "",
    ) -> Instance:
        """Make an instance at once, without a job; `disks` are the sizes of data volumes."""
        world = self.world
        new = making.NewInstance(
            name=name,
            account=account or self.account("admin"),
            template=self._template(template),
            offering=world.named(ServiceOffering, offering),
            networks=[world.named(Network, one) for one in networks],
            disks=disks,
            running=running,
            host=host,
            pool=world.named(Pool, pool) if pool else None,
            root_size=root_size,
            tags=tags or {},
            details=details or {},
            user_data=user_data,
            display_name=display_name,
        )
        vm = making.make(world, self.machines, new)
        self.events.add(
            "VM.CREATE", f"Successfully created entity for deploying Vm. Vm Id: {vm.id}",
            account_id=vm.account_id, about=("VirtualMachine", vm.id), resource=vm.name,
        )  # fmt: skip
        return vm

    def _template(self, name: str) -> Template:
        rows = (row for row in self.world.all(Template) if not row.is_iso)
        return next(row for row in rows if name in ("", row.name))

    def fill(
        self, count: int, *, prefix: str = "vm", account: Account | None = None
    ) -> list[Instance]:
        """Make many instances; half of them run, spread over the hosts."""
        hosts = [host.name for host in self.world.all(Host)]
        return [
            self.add_instance(
                f"{prefix}-{number:05}",
                account=account,
                running=number % 2 == 0,
                host=hosts[number // 2 % len(hosts)],
                disks=(1 << 30,),
            )
            for number in range(count)
        ]

    def lose_host(self, name: str) -> list[str]:
        """Let a host be dead: its instances are started on others, as HA does; gives the jobs."""
        world = self.world
        with world.lock:
            host = world.host_named(name)
            host.state = "Down"
            lost = [vm for vm in world.all(Instance) if vm.host_id == host.id]
            caller = Caller(seed.user_of(world, self.account("admin")), self.account("admin"))
            self.events.add(
                "HOST.DOWN", f"Host is down, name: {name}", account_id=caller.account.id,
                about=("Host", host.id), resource=name, level="ERROR",
            )  # fmt: skip
        return [commands_hosts.start_elsewhere(self.call_as(caller), vm).id for vm in lost]

    def call_as(self, caller: Caller) -> Call:
        """Give a call that came from nowhere: for what the server does by itself."""
        command = COMMANDS["startvirtualmachine"]
        return Call(self.world, self.machines, self.jobs, caller, command, {}, {}, self.events)

    def expunge(self, vm: Instance) -> None:
        """Make an instance be gone at once, as if somebody had expunged it a moment ago."""
        self.machines.stop(vm.instance_name, forced=True)
        with self.world.lock:
            for disk in self.world.volumes_of(vm):
                self.world.remove(disk)
                if disk.path:
                    self.machines.delete_volume(disk.pool_id, disk.path)
            self.world.remove(vm)
        self.events.add(
            "VM.EXPUNGE", f"successfully expunged vm: {vm.id}", account_id=vm.account_id,
            about=("VirtualMachine", vm.id), resource=vm.name,
        )  # fmt: skip


def _reserve(port: int) -> socket.socket:
    """Hold a port without listening, so that nobody else gets it meanwhile."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        holder.bind(("127.0.0.1", port))
    except OSError:
        holder.close()
        raise
    return holder


def _keys(pair: KeyPairOfUser) -> Keys:
    return Keys(pair.api_key, pair.secret)
