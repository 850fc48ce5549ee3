"""Many hosts, shown on real ones: deploy, protect, migrate, break, restore, look.

Two whole KVM hosts run in containers, each with systemd, sshd and libvirtd, and share their
storage.  Every step runs the ``sendense`` command line as an operator would.  A worker is killed in
the middle of a backup on the way.  What comes back is compared byte for byte.
"""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
from contextlib import ExitStack

from rich.console import Console

from demo.hosts import hosts
from demo.telling import WIDTH, Telling, once
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.cluster.cluster import Cluster
from sendense_lab.cluster.host import ClusterHost
from sendense_lab.lab import DiskSpec
from sendense_lab.pool import MIB

API = "127.0.0.1:18443"


class FleetDemo(Telling):
    """One telling of the story."""

    def __init__(self, lab: Cluster, console: Console, stack: ExitStack) -> None:
        folder = lab.root / "control"
        folder.mkdir()
        super().__init__(console, folder)
        self.lab = lab
        gateway = f"{lab.bridge.address}:443"
        self.environment |= {
            "SENDENSE_SERVER_STATE_DIR": str(self.folder / "server"),
            "SENDENSE_SERVER_LISTEN": API,
            "SENDENSE_SERVER_GATEWAY_LISTEN": gateway,
            "SENDENSE_SERVER_GATEWAY_ADDRESS": gateway,
            "SENDENSE_SERVER_EMBEDDED_WORKER": "false",
            "SENDENSE_SERVER_WORKER_LEASE_S": "5",
            "SENDENSE_SERVER_RETRY_PAUSE_S": "2",
            "SENDENSE_SERVER_HEARTBEAT_S": "1",
            "SENDENSE_CACHE_DIR": str(self.folder / "cache"),
            "SENDENSE_SERVER": f"http://{API}",
            "SENDENSE_TOKEN_FILE": str(self.folder / "token"),
        }
        stack.callback(self.stop)

    # -- the story -------------------------------------------------------------------

    def tell(self) -> None:
        """Run every scene; raise where one does not hold."""
        kvm1, kvm2 = self.lab.hosts.values()
        self.scene("A control plane with a gateway on port 443, and two workers")
        self.start_control_plane()
        self.scene("Two hosts, deployed by one command")
        ssh = ["--ssh-key", str(self.lab.key), "--known-hosts", str(self.lab.root / "known_hosts")]
        for host in (kvm1, kvm2):
            self.sendense("host", "add", host.name, host.address)
        self.settings(bandwidth_limit_mbps=0)
        self.sendense(
            "host", "deploy", kvm1.name, kvm2.name, *ssh,
            "--pool", str(self.lab.pool.folder), "--agent-settings", str(self.folder / "more.yaml"),
        )  # fmt: skip
        self.sendense("host", "list")
        self.scene("A repository and a policy, which takes all instances")
        self.repository()
        self.sendense(
            "policy", "add", "nightly", "--to", "main", "--schedule", "0 1 * * *", "--match", "i-*",
            "--keep-daily", "14", "--sla", "48h",
        )  # fmt: skip
        self.scene("Four machines on two hosts, protected at once, within the limits of the hosts")
        vms = [self.start_vm(host) for host in (kvm1, kvm1, kvm2, kvm2)]
        self.wait_for("the instances", lambda: len(self.ask("instance", "list")["instances"]) == 4)
        self.sendense("job", "backup", "--wait", *(vm.name for vm in vms))
        self.scene(f"{vms[0].name} moves to {kvm2.name}, live; its next backup reads what changed")
        self.migrate(vms[0], kvm2)
        self.sendense("job", "backup", "--wait", vms[0].name)
        self.sendense("job", "list", "--about", vms[0].name)
        self.scene("A worker is killed in the middle of a backup, and another goes on")
        self.kill_a_worker(vms[1])
        self.scene(f"{vms[2].name} is lost, and restored to the other host")
        self.lose_and_restore(vms[2], kvm1)
        self.scene("How everything stands")
        self.sendense("status", fails=True)
        self.say(f"\n[bold green]All of it held, in {self.seconds:.0f} s.[/]")

    def start_control_plane(self) -> None:
        """Start the server and two workers; keep the token that is printed once."""
        self.start_server()
        for name in ("mover1", "mover2"):
            self.start(name, "worker", "--name", name)

    def settings(self, **performance: int) -> None:
        """Write what agents are told beside what the enrolment gives them."""
        limits = {"max_concurrent_vms": 2, **performance}
        more = {"scratch_reserve": "1M", "performance": limits, "lease_s": 30}
        (self.folder / "more.yaml").write_text(json.dumps({"kvm_agent": more}))

    def repository(self) -> None:
        """Have a new repository made."""
        passphrase = self.secret("passphrase", secrets.token_hex(16))
        url = f"dedup:{self.folder / 'repository'}"
        self.sendense(
            "repository", "add", "main", url, "--create", "--passphrase-file", str(passphrase)
        )

    def start_vm(self, host: ClusterHost) -> CloudVm:
        """Start a machine with some data."""
        vm = self.lab.create_vm(host, disks=[DiskSpec(size=48 * MIB)])
        vm.guest.wait_ready(timeout_s=180)
        vm.random_fill("vdb", 0, 16 * MIB, secrets.randbits(32))
        self.say(f"  {vm.name} runs on {host.name}")
        return vm

    def migrate(self, vm: CloudVm, to: ClusterHost) -> None:
        """Move a machine, and wait until the control plane has seen it there."""
        self.lab.migrate(vm, to)
        vm.random_fill("vdb", 20 * MIB, 1 * MIB, secrets.randbits(32))
        there = next(item for item in self.ask("host", "list")["hosts"] if item["name"] == to.name)

        def moved() -> bool:
            found = self.ask("instance", "list")["instances"]
            return any(it["name"] == vm.name and it["host_id"] == there["id"] for it in found)

        self.wait_for(f"{vm.name} on {to.name}", moved)

    def kill_a_worker(self, vm: CloudVm) -> None:
        """Begin a slow backup, kill the worker that has it, and wait for the end."""
        self.throttle(8)
        vm.random_fill("vdb", 0, 24 * MIB, secrets.randbits(32))
        job = self.ask("job", "backup", vm.name)["job"]

        def begun() -> bool:
            now = self.ask("job", "show", job["id"])["job"]
            return bool((now["progress"] or {}).get("done_bytes"))

        self.wait_for("the backup to begin", begun)
        logs = {name: (self.folder / f"{name}.log").read_text() for name in ("mover1", "mover2")}
        (worker,) = (name for name, text in logs.items() if job["id"] in text)
        self.processes.pop(worker).send_signal(signal.SIGKILL)
        self.say(f"  kill -9 of {worker}, which had job {job['id']}")
        self.throttle(0)
        self.sendense("job", "watch", job["id"])

    def throttle(self, limit: int) -> None:
        """Set the bandwidth of all hosts, by their own settings."""
        for host in self.lab.hosts.values():
            path = "/etc/sendense/sendense-capture.yaml"
            lines = host.read(path).splitlines()
            limits = json.dumps({"max_concurrent_vms": 2, "bandwidth_limit_mbps": limit})
            kept = [line for line in lines if not line.startswith("  performance:")]
            host.put(path, "\n".join([*kept, f"  performance: {limits}", ""]), mode=0o600)
            host.run(["systemctl", "reload", "sendense-capture"])

    def lose_and_restore(self, vm: CloudVm, to: ClusterHost) -> None:
        """Destroy a machine, restore it to new files of another host, and compare."""
        # Paused, so that it writes nothing between its last point and its end.
        vm.domain.suspend()
        self.sendense("job", "backup", "--wait", "--consistency", "crash", vm.name)
        vm.destroy()
        truth = {target: vm.read_disk(target, self.folder / f"truth-{target}.raw")
                 for target in vm.disks}  # fmt: skip
        result = self.ask(
            "job", "restore", f"latest:{vm.name}", "--on", to.name, "--pool",
            str(self.lab.pool.folder), "--define", "--wait",
        )  # fmt: skip
        done = result["job"]["result"]
        warnings = done["warnings"] or "none"
        self.say(f"  restored on {done['host']} in {done['seconds']:.1f} s; warnings: {warnings}")
        for disk in done["disks"]:
            raw = self.folder / "restored.raw"
            convert = ["qemu-img", "convert", "-O", "raw", disk["path"], str(raw)]
            subprocess.run(convert, check=True)
            same = raw.read_bytes() == truth[disk["target"]].read_bytes()
            self.say(f"  {disk['target']}: {'identical' if same else 'DIFFERENT'}")
            if not same:
                raise SystemExit("the restore is not what was lost")
        self.show(to.run(["virsh", "dominfo", done["machine"]]))
        self.say(f"  {vm.name} is defined on {to.name}")


def main() -> int:
    """Tell the story once."""
    console = Console(width=WIDTH)
    with once(console), hosts(console) as lab, ExitStack() as stack:
        FleetDemo(lab, console, stack).tell()
    return 0


if __name__ == "__main__":
    sys.exit(main())
