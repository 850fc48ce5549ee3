"""CloudStack, protected: discover, deploy, back up, lose an instance and have it back.

A simulated CloudStack stands in front of two real KVM hosts: what its API is told happens to real
machines.  Customers of two domains deploy instances there.  Every step of the product is its
command line, as an operator would type it; its keys may do what ``sendense cloud role`` prints, and
nothing else.  What comes back is compared byte for byte with what was lost, and boots.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import secrets
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from demo.cloudmonkey import CloudMonkey
from demo.customers import TAG, Customer, Customers, user_of
from demo.hosts import hosts
from demo.telling import SENDENSE, WIDTH, Person, Telling, once
from sendense_lab.cluster.cluster import Cluster
from sendense_lab.ports import free_port
from sendense_lab.simulator import Simulator
from sendense_lab.simulator.lab_machines import LabMachines

CLOUD = "zone1"
VERSION = "4.22"
SAVED = 0.95
"""The least share that an incremental has to save, of what a full reads and stores."""


class CloudDemo(Telling):
    """One telling of the story."""

    def __init__(self, lab: Cluster, console: Console, stack: ExitStack) -> None:
        """Have the cloud answer; the control plane is not there yet."""
        folder = lab.root / "control"
        folder.mkdir()
        super().__init__(console, folder)
        # Where it is typed, so that no long paths have to be.
        for name in ("id_ed25519", "known_hosts"):
            (folder / name).symlink_to(lab.root / name)
        self.machines = LabMachines.over(lab)
        self.cloud = stack.enter_context(Simulator(self.machines, version=VERSION))
        keys = self.cloud.admin_keys
        self.admin = CloudMonkey(self.cloud.url, keys.api_key, keys.secret)
        self.customers = Customers(self.admin, self.machines, self.say)
        self.working = ThreadPoolExecutor(thread_name_prefix="guest")
        """What goes on in guests while the operator types; ends with the guests."""
        stack.callback(self.working.shutdown, wait=False, cancel_futures=True)
        api, gateway = f"127.0.0.1:{free_port()}", f"{lab.bridge.address}:443"
        self.server = f"http://{api}"
        self.environment |= {
            "SENDENSE_SERVER_STATE_DIR": str(folder / "server"),
            "SENDENSE_SERVER_LISTEN": api,
            "SENDENSE_SERVER_GATEWAY_LISTEN": gateway,
            "SENDENSE_SERVER_GATEWAY_ADDRESS": gateway,
            "SENDENSE_SERVER_HEARTBEAT_S": "1",
            "SENDENSE_CACHE_DIR": str(folder / "cache"),
            "SENDENSE_SERVER": self.server,
            "SENDENSE_TOKEN_FILE": str(folder / "token"),
        }
        stack.callback(self.stop)

    def stay(self) -> None:
        """Leave all as it is for whoever wants to look around."""
        names = ("SENDENSE_SERVER", "SENDENSE_TOKEN_FILE")
        self.say("\nIt stays until Ctrl-C. In another terminal:")
        for name in names:
            self.show(f"  export {name}={self.environment[name]}")
        self.show(f"  alias sendense={SENDENSE} cmk={self.folder}/bin/cmk")
        signal.pause()

    # --- The story

    def tell(self) -> None:
        """Run every scene; raise where one does not hold."""
        self.scene(f"A CloudStack {VERSION} (simulated) with two KVM hosts, and two customers")
        acme, globex = self.customers.add("acme"), self.customers.add("globex")
        self.deploy_instances(acme, globex)
        protected = {**acme.instances, "shop1": globex.instances["shop1"]}
        filled = [
            self.working.submit(self.customers.fill, identity, seed)
            for seed, identity in enumerate(protected.values(), 1)
        ]
        self.scene("The control plane, and keys that may do what it needs and nothing else")
        self.start_server()
        self.know_the_cloud()
        self.scene("Discovery, and agents to all hosts by one command")
        self.discover()
        self.scene("A policy takes what carries the tag; what nothing takes is listed")
        self.protect()
        self.scene("The nightly round: a full of each instance")
        for each in filled:
            each.result()
        full = self.round(protected)
        self.scene("They work on; CloudStack migrates web1, live, and stops db1")
        self.live_on(protected)
        self.scene("The next round reads what changed, and nothing else")
        saved(self.console, full, self.round(protected))
        self.scene("db1 is destroyed and expunged in CloudStack, and brought back")
        self.lose_and_restore(acme, "db1")
        self.scene("A customer signs in with its CloudStack keys, and sees its own")
        self.be_a_tenant(acme)
        self.scene("How everything stands")
        self.sendense("status", fails=True)
        self.say(f"\n[bold green]All of it held, in {self.seconds:.0f} s.[/]")

    def deploy_instances(self, acme: Customer, globex: Customer) -> None:
        """Have the customers deploy, each with its own keys."""
        self.customers.deploy(acme, "web1")
        self.customers.deploy(acme, "db1")
        self.customers.deploy(globex, "shop1")
        self.customers.deploy(globex, "scratch1", tagged=False, start=False)

    def know_the_cloud(self) -> None:
        """Make two users by the roles that are printed, and tell the control plane of them."""
        reading = self.least_user("sendense-read")
        restoring = self.least_user("sendense-restore", "--restore")
        self.sendense(
            "cloud", "add", CLOUD, self.cloud.url,
            "--api-key", reading.keys[0],
            "--secret-file", self.secret("read.secret", reading.keys[1]).name,
            "--restore-api-key", restoring.keys[0],
            "--restore-secret-file", self.secret("restore.secret", restoring.keys[1]).name,
        )  # fmt: skip
        self.sendense("cloud", "check", CLOUD)

    def least_user(self, role: str, *options: str) -> CloudMonkey:
        """Run the commands that the product prints for a role as they stand; give its user."""
        name = f"{role}.sh"
        lines = self.into(name, "cloud", "role", "--name", role, *options).splitlines()
        self.show("\n".join(lines[:4]))
        self.say(f"[dim]... and {len(lines) - 4} more lines. Run as they are:[/]")
        self.say(f"[bold]cloudstack# sh {name}[/]")
        program = self.folder / "bin" / "cmk"
        program.parent.mkdir(exist_ok=True)
        self.admin.profile(self.folder / "cmk.json")
        here = Path(__file__).resolve().parent.parent
        program.write_text(
            f"#!/bin/sh\ncd {here} && exec {sys.executable} -m demo.cloudmonkey"
            f' {self.folder / "cmk.json"} "$@"\n'
        )
        program.chmod(0o700)
        path = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}"}
        subprocess.run(
            ["sh", "-eu", self.folder / name], check=True, env=path, stdout=subprocess.DEVNULL
        )
        account = self.admin.made(
            "create account", account=role, username=role, firstname="Sendense",
            lastname="Backup", email=f"{role}@localhost", password=secrets.token_hex(16),
            roleid=self.admin.named("list roles", role),
        )  # fmt: skip
        return user_of(self.admin, account)

    def discover(self) -> None:
        """Read the cloud, and bring agents to its hosts."""
        self.sendense("cloud", "sync", CLOUD, "--wait")
        self.sendense("cloud", "hosts", CLOUD)
        # The hosts of the lab have little room; the log of a deployment names what it writes.
        (self.folder / "agent.yaml").write_text("kvm_agent: {scratch_reserve: 1M}\n")
        self.sendense(
            "host", "deploy", "--cloud", CLOUD, "--agent-settings", "agent.yaml",
            "--ssh-key", "id_ed25519", "--known-hosts", "known_hosts",
        )  # fmt: skip
        self.sendense("cloud", "hosts", CLOUD)

    def protect(self) -> None:
        """Make a repository and a policy."""
        self.sendense(
            "repository", "add", "vault", f"dedup:{self.folder / 'repository'}", "--create",
            "--passphrase-file", self.secret("vault.pass", secrets.token_hex(16)).name,
        )  # fmt: skip
        policy = (
            "policy", "add", "nightly", "--to", "vault", "--schedule", "30 1 * * *",
            "--tag", "=".join(TAG), "--keep-last", "3", "--keep-daily", "14", "--sla", "26h",
        )  # fmt: skip
        self.sendense(*policy, "--dry-run")
        self.sendense(*policy)
        self.sendense("instance", "list", "--unprotected")

    def round(self, instances: dict[str, str]) -> dict[str, dict[str, Any]]:
        """Have the policy run; give what the newest backup of each instance was."""
        self.sendense("policy", "run", "nightly", "--wait")
        return {name: self.newest(identity) for name, identity in instances.items()}

    def newest(self, identity: str) -> dict[str, Any]:
        """Give the result of the newest backup of an instance."""
        jobs = self.ask("job", "list", "--about", identity, "--kind", "backup")["jobs"]
        result: dict[str, Any] = jobs[0]["result"]
        return result

    def live_on(self, instances: dict[str, str]) -> None:
        """Let time pass: work, a live migration and a stop."""
        for seed, identity in enumerate(instances.values(), 100):
            self.customers.work(identity, seed)
        web = self.customers.instance(instances["web1"])
        to = next(name for name in self.customers.hosts if name != web["hostname"])
        self.customers.do(
            "migrate virtualmachine", virtualmachineid=web["id"], hostid=self.customers.hosts[to]
        )
        self.customers.do("stop virtualmachine", id=instances["db1"])
        self.say(f"  web1 runs on {to} now; db1 is off")

    def lose_and_restore(self, owner: Customer, name: str) -> None:
        """Expunge an instance that is off, bring it back, compare, and start it."""
        identity = owner.instances[name]
        before, old = self.customers.instance(identity), self.customers.volumes(identity)
        truth = [self.copy(volume, "truth") for volume in old]
        self.customers.do("destroy virtualmachine", id=identity, expunge="true")
        if self.customers.named(name):
            raise SystemExit(f"{name} is still there")
        self.sendense("cloud", "sync", CLOUD, "--wait")
        self.sendense("cloud", "restore", f"latest:{name}", "--lost", "--plan")
        self.sendense("cloud", "restore", f"latest:{name}", "--lost", "--wait")
        (after,) = self.customers.named(name)
        self.same(before, after)
        for volume, true in zip(self.customers.volumes(after["id"]), truth, strict=True):
            if not filecmp.cmp(true, self.copy(volume, "restored"), shallow=False):
                raise SystemExit(f"{volume['name']} is not what was lost")
            self.say(f"  {volume['name']}: {true.stat().st_size} bytes, identical")
        self.customers.do("start virtualmachine", id=after["id"])
        guest = self.customers.vm(after["id"]).guest
        guest.wait_ready(timeout_s=120)
        self.show(guest.verify_files())
        self.say(f"  {name} runs in CloudStack again, and all of its files hold")

    def copy(self, volume: dict[str, Any], kind: str) -> Path:
        """Give what a volume of an instance that is off holds, as a raw file."""
        image = self.machines.volume(volume["storageid"], volume["path"])
        into = self.folder / f"{kind}-{volume['deviceid']}.raw"
        convert = [
            "qemu-img",
            "convert",
            "-f",
            image.format,
            "-O",
            "raw",
            str(image.path),
            str(into),
        ]
        subprocess.run(convert, check=True)
        return into

    def same(self, before: dict[str, Any], after: dict[str, Any]) -> None:
        """Compare what CloudStack says of an instance that was lost and came back."""
        for what, look in (
            ("name", lambda vm: vm["name"]),
            ("owner", lambda vm: f"{vm['account']} of {vm['domainpath']}"),
            ("tags", lambda vm: ", ".join(f"{t['key']}={t['value']}" for t in vm["tags"])),
            ("MAC", lambda vm: vm["nic"][0]["macaddress"]),
            ("offering", lambda vm: vm["serviceofferingname"]),
        ):
            if look(before) != look(after):
                raise SystemExit(f"{what} was {look(before)} and is {look(after)}")
            self.say(f"  {what}: {look(after)}, as before")

    def be_a_tenant(self, customer: Customer) -> None:
        """Let a customer sign in, see its own, and be refused what is another's."""
        self.sendense("tenant", "add", customer.name, "--cloud", CLOUD, "--domain", customer.domain)
        home = self.folder / customer.name
        who = Person(
            f"{customer.name}$",
            {
                "XDG_CONFIG_HOME": str(home),
                "SENDENSE_SERVER": None,
                "SENDENSE_TOKEN_FILE": None,
            },
        )
        secret = self.secret(f"{customer.name}.secret", customer.monkey.keys[1])
        self.sendense(
            "login", self.server, "--cloud", CLOUD, "--api-key", customer.monkey.keys[0],
            "--secret-file", secret.name, who=who,
        )  # fmt: skip
        self.sendense("instance", "list", "--not-gone", who=who)
        names = {row["name"] for row in self.ask("instance", "list", who=who)["instances"]}
        if "shop1" in names:
            raise SystemExit(f"{customer.name} sees {names}")
        self.refused("instance", "show", "shop1", who=who)
        self.refused("cloud", "restore", "latest:shop1", "--plan", who=who)


def saved(console: Console, full: dict[str, Any], later: dict[str, Any]) -> None:
    """Show how much less an incremental reads and stores; less than was promised is an error."""
    table = Table("instance", "", "full", "incremental", "saved", box=None)
    for what, field in (("read", "read_bytes"), ("stored", "stored_bytes")):
        for name, first in full.items():
            then = later[name]
            if (first["mode"], then["mode"]) != ("full", "incremental"):
                raise SystemExit(f"{name} was {first['mode']}, then {then['mode']}")
            table.add_row(name, what, *_compared(first[field], then[field]))
        before = sum(each[field] for each in full.values())
        after = sum(each[field] for each in later.values())
        table.add_row("all", what, *_compared(before, after), style="bold")
        if after > (1 - SAVED) * before:
            raise SystemExit(f"{after} bytes of {before} were {what}: not {SAVED:.0%} saved")
    console.print(table)


def _compared(before: int, after: int) -> tuple[str, str, str]:
    return f"{before / 2**20:.1f} MiB", f"{after / 2**20:.1f} MiB", f"{1 - after / before:.1%}"


def main() -> int:
    """Tell the story once."""
    parser = argparse.ArgumentParser(description="Protect a CloudStack, lose an instance, restore.")
    parser.add_argument(
        "--stay", action="store_true", help="leave all of it running afterwards, until Ctrl-C"
    )
    chosen = parser.parse_args()
    console = Console(width=WIDTH)
    with once(console), hosts(console) as lab, ExitStack() as stack:
        demo = CloudDemo(lab, console, stack)
        try:
            demo.tell()
        finally:
            if chosen.stay:
                demo.stay()
    return 0


if __name__ == "__main__":
    sys.exit(main())
