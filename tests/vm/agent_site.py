"""An agent under test: a real process over a lab host, and a client that holds its secret."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import nbd

from sendense import clock
from sendense.capture.bitmaps import query_images
from sendense.capture.checkpoints import own_names
from sendense.capture.images import image_chain
from sendense.fleet.address import AgentAddress
from sendense.model.agent_status import CaptureStatus, GateExport, RestoreStatus, WorkState
from sendense.model.coding import decode
from sendense.model.decision import Base, CapturePolicy, DiskDecision, decide
from sendense.model.point import Consistency, new_point_id
from sendense.model.secret import Secret
from sendense.model.survey import Survey, is_own
from sendense.model.ticket import Action, CaptureOrder, RestoreOrder, Ticket, sign
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.domain_xml import domain_xml
from sendense_lab.hypervisor import Hypervisor
from sendense_lab.lab import Lab

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
AGENT = "lab-agent"
_KEY = "ssh-ed25519 " + "A" * 60


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path, timeout: float = 150) -> None:
        super().__init__("agent", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class Reply:
    """What the agent answered."""

    status: int
    body: Any


class AgentSite:
    """One agent on one host of the lab."""

    def __init__(self, lab: Lab, hypervisor: Hypervisor, name: str = "agent") -> None:
        self.lab = lab
        self.hypervisor = hypervisor
        self.folder = lab.root / name
        self.folder.mkdir(exist_ok=True)
        self.id = AGENT
        self.secret = Secret(b"s" * 40)
        self.settings_file = self.folder / "agent.yaml"
        self.state_dir = self.folder / "state"
        self.pool = lab.root / "mnt"
        self._socket = self.folder / "a.sock"
        self._port_file = self.folder / "gate.port"
        self._process: subprocess.Popen[bytes] | None = None
        self.know(AGENT, self.secret)
        self.configure()

    def know(self, agent_id: str, secret: Secret) -> None:
        """Have the agent be this one, with this secret, from its next start on."""
        self.id, self.secret = agent_id, secret
        secret_file = self.folder / "secret"
        secret_file.write_bytes(secret.reveal())
        secret_file.chmod(0o600)

    # -- the process -----------------------------------------------------------------

    def configure(
        self,
        extra: str = "",
        *,
        lease_s: int = 60,
        transport: str = "ssh",
        scratch: Path | None = None,
        reserve: str = "1M",
        gateway: str = f'{{host: 127.0.0.1, host_keys: ["{_KEY}"], api_port: 20000}}',
    ) -> None:
        """Write the settings; ``extra`` are lines of the section."""
        self.gateway = gateway
        self.settings_file.write_text(
            f"""kvm_agent:
  id: {self.id}
  secret_file: {self.folder}/secret
  listen: {self._socket}
  libvirt_uri: "{self.hypervisor.uri}"
  transport: {transport}
  gateway: {gateway}
  state_dir: {self.state_dir}
  socket_dir: {self.hypervisor.run_dir}
  scratch_dir: {scratch or self.hypervisor.run_dir}
  scratch_reserve: {reserve}
  guest_agent_timeout: 5
  pools: [{self.pool}]
  nvram_dir: {self.lab.root}/nvram
  lease_s: {lease_s}
  log_level: debug
{extra}
"""
        )

    def configure_again(self, extra: str) -> None:
        """Write the settings with other lines, which the agent reads while it runs."""
        self.configure(f"  {extra}", gateway=self.gateway)

    def start(self, step: str = "", *, program: str = "tests.vm.agent_process") -> None:
        """Start the agent, and wait until it serves; it kills itself at ``step``."""
        command = [sys.executable, "-m", program, str(self.settings_file), str(self._port_file)]
        if program == "sendense.agent":
            command = [sys.executable, "-m", program, "--config", str(self.settings_file)]
        command += [step] if step else []
        self._port_file.unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, cwd=ROOT)
        deadline = time.monotonic() + 120
        while not self._serves(gate=program != "sendense.agent"):
            assert self._process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the agent; gives its exit code."""
        process = self._process
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(number)
        self._process = None
        return process.wait(150)

    def strike(self, number: int) -> None:
        """Send a signal, and wait for nothing."""
        if self._process is not None:
            self._process.send_signal(number)

    def wait_dead(self) -> None:
        """Wait until the agent has killed itself."""
        process, self._process = self._process, None
        assert process is not None
        assert process.wait(150) == -signal.SIGKILL, self.log()

    @contextmanager
    def running(self, step: str = "") -> Iterator[AgentSite]:
        """Have the agent run in a ``with`` block."""
        self.start(step)
        try:
            yield self
        finally:
            self.stop()

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def resident_bytes(self) -> int:
        """Give what the process holds in memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        line = next(item for item in status.splitlines() if item.startswith("VmRSS"))
        return int(line.split()[1]) * 1024

    def _serves(self, *, gate: bool) -> bool:
        if gate and not self._port_file.exists():
            return False
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(str(self._socket))
        except OSError:
            return False
        return True

    @property
    def address(self) -> AgentAddress:
        """Say how it is reached, as the control plane does; without a tunnel."""
        port = int(self._port_file.read_text())
        return AgentAddress(
            self.id, "lab-host", self.secret, data=(("127.0.0.1", port),), socket=str(self._socket)
        )

    # -- requests --------------------------------------------------------------------

    def ticket(self, action: Action = Action.LOOK, **changes: Any) -> Ticket:
        """Make a ticket that is valid for a minute."""
        made = Ticket(uuid.uuid4().hex, self.id, action, clock.now() + timedelta(seconds=60))
        return replace(made, **changes)

    def send(
        self,
        method: str,
        path: str,
        ticket: Ticket | None = None,
        body: Any = None,
        *,
        raw: str = "",
    ) -> Reply:
        """Send a request with a signed ticket; ``raw`` is sent in its place."""
        text = raw or (sign(ticket, self.secret) if ticket is not None else "")
        headers = {"Authorization": f"Sendense {text}"} if text else {}
        content = None if body is None else json.dumps(body)
        connection = UnixConnection(self._socket)
        try:
            connection.request(method, path, content, headers)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        is_json = "json" in answer.getheader("Content-Type", "")
        return Reply(answer.status, json.loads(data) if is_json else data.decode())

    def look(self, path: str) -> Any:
        """Read something that must be there."""
        reply = self.send("GET", path, self.ticket())
        assert reply.status == 200, reply.body
        return reply.body

    def ticket_to_release(self, vm: CloudVm) -> Ticket:
        """Make a ticket to take our checkpoints off a machine."""
        return self.ticket(Action.RELEASE, release=vm.uuid)

    def survey(self, vm: CloudVm) -> Survey:
        """Have a machine surveyed."""
        return decode(Survey, self.look(f"/v1/machines/{vm.uuid}/survey"))

    # -- captures --------------------------------------------------------------------

    def define(self, vm: CloudVm) -> None:
        """Have libvirt keep a machine that is off."""
        self.hypervisor.connection.defineXML(domain_xml(vm.shape, vm.disks))

    def capture_ticket(
        self,
        vm: CloudVm,
        base: str | None = None,
        *,
        consistency: Consistency = Consistency.CRASH,
        committed: tuple[str, ...] = (),
        disks: tuple[DiskDecision, ...] | None = None,
        domain_xml: str | None = None,
    ) -> Ticket:
        """Make a ticket to capture all disks, incremental from the point ``base``."""
        if disks is None:
            disks = self.decisions(self.survey(vm), base)
        order = CaptureOrder(
            machine=vm.uuid,
            point_id=new_point_id(clock.now()),
            disks=disks,
            consistency=consistency,
            committed=committed or ((base,) if base else ()),
            domain_xml=domain_xml,
        )
        return self.ticket(Action.CAPTURE, capture=order)

    def decisions(self, survey: Survey, base: str | None) -> tuple[DiskDecision, ...]:
        """Decide as the control plane does."""
        return tuple(
            decide(
                seen,
                None
                if base is None
                else Base(
                    base, f"sendense-{base}", seen.size, seen.disk.path, seen.chain, False, 1
                ),
                CapturePolicy(),
                machine_known=base is not None,
                host_incremental=survey.incremental,
            )
            for seen in survey.disks
        )

    def begin(self, ticket: Ticket) -> CaptureStatus:
        """Begin a capture, which must be accepted."""
        reply = self.send("POST", "/v1/captures", ticket)
        assert reply.status == 202, reply.body
        return decode(CaptureStatus, reply.body)

    def status(self, ticket: Ticket) -> CaptureStatus:
        reply = self.send("GET", f"/v1/captures/{ticket.id}", ticket)
        assert reply.status == 200, reply.body
        return decode(CaptureStatus, reply.body)

    def wait_for(self, ticket: Ticket, *states: WorkState, within_s: float = 150) -> CaptureStatus:
        """Wait until a capture is in one of some states."""
        deadline = time.monotonic() + within_s
        while True:
            found = self.status(ticket)
            if found.state in states:
                return found
            dead = found.state in (WorkState.FAILED, WorkState.ABORTED, WorkState.COMMITTED)
            assert not dead, found
            assert time.monotonic() < deadline, found
            time.sleep(0.1)

    def ready(self, ticket: Ticket) -> CaptureStatus:
        """Begin a capture and wait until it can be read."""
        self.begin(ticket)
        return self.wait_for(ticket, WorkState.READY)

    def commit(self, ticket: Ticket, drop: tuple[str, ...] = ()) -> CaptureStatus:
        reply = self.send("POST", f"/v1/captures/{ticket.id}/commit", ticket, {"drop": list(drop)})
        assert reply.status == 200, reply.body
        return decode(CaptureStatus, reply.body)

    def abort(self, ticket: Ticket) -> CaptureStatus:
        reply = self.send("DELETE", f"/v1/captures/{ticket.id}", ticket)
        assert reply.status == 200, reply.body
        return decode(CaptureStatus, reply.body)

    # -- restores --------------------------------------------------------------------

    def restore_ticket(self, order: RestoreOrder) -> Ticket:
        return self.ticket(Action.RESTORE, restore=order)

    def restore_status(self, ticket: Ticket) -> RestoreStatus:
        reply = self.send("GET", f"/v1/restores/{ticket.id}", ticket)
        assert reply.status == 200, reply.body
        return decode(RestoreStatus, reply.body)

    def restore_ready(self, ticket: Ticket) -> RestoreStatus:
        """Begin a restore and wait until it can be written."""
        reply = self.send("POST", "/v1/restores", ticket)
        assert reply.status == 202, reply.body
        deadline = time.monotonic() + 150
        while True:
            found = self.restore_status(ticket)
            if found.state in (WorkState.READY, WorkState.FAILED):
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.1)

    def finish(self, ticket: Ticket) -> RestoreStatus:
        reply = self.send("POST", f"/v1/restores/{ticket.id}/finish", ticket)
        assert reply.status == 200, reply.body
        return decode(RestoreStatus, reply.body)

    # -- bytes -----------------------------------------------------------------------

    def through_gate(self, export: GateExport, secret: str = "") -> socket.socket:
        """Connect to an export as a worker does."""
        port = int(self._port_file.read_text())
        wire = socket.create_connection(("127.0.0.1", port), timeout=120)
        wire.sendall(f"SENDENSE/1 {export.name} {secret or export.secret}\n".encode())
        answer = b""
        while not answer.endswith(b"\n"):
            more = wire.recv(1)
            assert more, "the gate ended the connection"
            answer += more
        if answer != b"OK\n":
            wire.close()
            raise PermissionError(answer.decode().strip())
        return wire

    def open(self, export: GateExport) -> nbd.NBD:
        """Speak NBD with an export."""
        handle = nbd.NBD()
        handle.set_export_name(export.export)
        if export.dirty_context:
            handle.add_meta_context(export.dirty_context)
        if export.socket is not None:
            handle.connect_unix(export.socket)
        else:
            handle.connect_socket(self.through_gate(export).detach())
        return handle

    def open_raw(self, export: dict[str, Any]) -> nbd.NBD:
        """Speak NBD with an export as a status tells of it."""
        return self.open(decode(GateExport, export))

    def read(self, export: GateExport) -> bytes:
        """Read a whole disk."""
        handle = self.open(export)
        size = handle.get_size()
        assert size == export.size
        parts = [
            bytes(handle.pread(min(MIB, size - start), start)) for start in range(0, size, MIB)
        ]
        handle.shutdown()
        return b"".join(parts)

    def patch(self, export: GateExport, before: bytes) -> tuple[bytes, int]:
        """Lay what the bitmap marks over an older copy; gives the disk, and the bytes read."""
        handle = self.open(export)
        found = bytearray(before)
        found.extend(bytes(max(0, export.size - len(found))))
        dirty: list[tuple[int, int]] = []

        def take(context: str, offset: int, entries: list[int], _error: Any) -> int:
            if context == export.dirty_context:
                for length, flags in zip(entries[::2], entries[1::2], strict=True):
                    if flags:
                        dirty.append((offset, length))
                    offset += length
            return 0

        handle.block_status(export.size, 0, take)
        count = 0
        for offset, length in dirty:
            for start in range(offset, offset + length, MIB):
                part = min(MIB, offset + length - start)
                found[start : start + part] = handle.pread(part, start)
                count += part
        handle.shutdown()
        return bytes(found), count

    def write(self, export: GateExport, content: bytes) -> None:
        """Write a whole disk, and flush it."""
        handle = self.open(export)
        for start in range(0, len(content), MIB):
            handle.pwrite(content[start : start + MIB], start)
        handle.flush()
        handle.shutdown()

    # -- proving ---------------------------------------------------------------------

    def own_marks(self, vm: CloudVm) -> set[str]:
        """List our checkpoints and bitmaps on a machine, running or stopped."""
        if vm.running:
            return set(own_names(vm.domain))
        return {
            item.name
            for volume in vm.disks.values()
            if volume.format == "qcow2"
            for item in image_chain(str(volume.path), "qcow2")[0].bitmaps
            if is_own(item.name)
        }

    def check_free(self, vm: CloudVm) -> None:
        """Prove that no job, socket, scratch or server of ours is left."""
        sockets = [*self.hypervisor.run_dir.glob("*.sock")]
        assert sockets == [], sockets
        assert [*self.hypervisor.run_dir.glob("*.qcow2")] == []
        if vm.running:
            assert vm.domain.jobStats().get("type", 0) == 0
            for image in query_images(vm.domain).values():
                assert not any(bitmap.inconsistent for bitmap in image.bitmaps)


def point_of(ticket: Ticket) -> str:
    """Give the point that a ticket to capture makes."""
    assert ticket.capture is not None
    return ticket.capture.point_id


def checkpoint_of(ticket: Ticket) -> str:
    """Give the checkpoint that a ticket to capture makes."""
    return f"sendense-{point_of(ticket)}"


def raw_content(vm: CloudVm, target: str, folder: Path) -> bytes:
    """Give what a stopped machine's disk holds, by qemu-img."""
    file = folder / "truth.raw"
    vm.read_disk(target, file)
    content = file.read_bytes()
    file.unlink()
    return content
