"""``sendense host deploy``, ``upgrade`` and ``remove``: agents to hosts and off them, over SSH.

The connections to the hosts are made from here, with this person's keys; the server sees none of
them.  It is asked for what only it can do: enrol an agent, let it in with what it had, hear it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sendense.cli.exitcodes import ExitCode, worst
from sendense.cli.failures import code_of
from sendense.cli.options import taking
from sendense.cli.output import Column, Sheet
from sendense.cli.points import confirm
from sendense.cli.remote.cloud_hosts import hosts_of_cloud
from sendense.cli.remote.frame import Remote, Yes, asks
from sendense.errors import NotFound, Rejected, SendenseError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sendense.cli.remote.answers import Doc
    from sendense.fleet.deploy import Deployed
    from sendense.fleet.deploy_plan import DeploymentPlan, Step
    from sendense.fleet.ssh import Access
    from sendense.model.agent_status import Heartbeat
    from sendense.model.enrolment import Enrolment

_PAUSE_MINUTES = 180

HostsArgument = Annotated[
    list[str], typer.Argument(metavar="HOST", help="Names or ids.", show_default=False)
]
UserOption = Annotated[str, typer.Option("--ssh-user", metavar="USER", help="Whom to log in as.")]
PortOption = Annotated[
    int,
    typer.Option("--ssh-port", metavar="PORT", min=1, max=65535, help="Of its SSH server."),
]
KeyOption = Annotated[
    Path | None,
    typer.Option("--ssh-key", metavar="FILE", help="Private key; else those of the SSH agent."),
]
PasswordOption = Annotated[
    Path | None,
    typer.Option("--ssh-password-file", metavar="FILE", help="File with the password."),
]
SudoOption = Annotated[
    Path | None,
    typer.Option("--sudo-password-file", metavar="FILE", help="What sudo asks for, if it does."),
]
KnownHostsOption = Annotated[
    Path | None,
    typer.Option(
        "--known-hosts", metavar="FILE", help="Keys of hosts; ~/.ssh/known_hosts by default."
    ),
]
FingerprintOption = Annotated[
    str | None,
    typer.Option(
        "--fingerprint", metavar="SHA256:...", help="Of the host's key, where no file has it."
    ),
]
ParallelOption = Annotated[
    int, typer.Option("--parallel", metavar="N", min=1, max=50, help="Hosts at once.")
]


@dataclass(frozen=True)
class Login:
    """How hosts are reached."""

    user: str
    port: int
    key: Path | None
    password: Path | None
    sudo: Path | None
    known_hosts: Path | None
    fingerprint: str | None

    def __post_init__(self) -> None:
        """Refuse what could reach no host, before any is asked."""
        for file in (self.key, self.password, self.sudo, self.known_hosts):
            if file is not None and not file.exists():
                raise NotFound(f"there is no {file}", hint="check the path")
        if self.fingerprint is not None and not self.fingerprint.startswith("SHA256:"):
            raise Rejected(
                f"{self.fingerprint} is no fingerprint of a host's key",
                hint="it begins with SHA256:, as 'ssh-keygen -lf' shows it",
            )

    def to(self, address: str, warn: Callable[[str], None]) -> Access:
        """Give the way to one host."""
        from sendense.cli.passphrase import read_secret_file
        from sendense.fleet.ssh import Access

        known = self.known_hosts or Path("~/.ssh/known_hosts").expanduser()
        return Access(
            address=address,
            port=self.port,
            user=self.user,
            password=read_secret_file(self.password, warn) if self.password else None,
            key_file=self.key,
            agent=os.environ.get("SSH_AUTH_SOCK"),
            sudo_password=read_secret_file(self.sudo, warn) if self.sudo else None,
            known_hosts=known if known.exists() else None,
            fingerprint=self.fingerprint,
        )


def login_of(
    *,
    ssh_user: UserOption = "root",
    ssh_port: PortOption = 22,
    ssh_key: KeyOption = None,
    ssh_password_file: PasswordOption = None,
    sudo_password_file: SudoOption = None,
    known_hosts: KnownHostsOption = None,
    fingerprint: FingerprintOption = None,
) -> Login:
    """Read the options about it."""
    return Login(
        ssh_user, ssh_port, ssh_key, ssh_password_file, sudo_password_file, known_hosts, fingerprint
    )


class RestSide:
    """A :class:`~sendense.fleet.deploy.ControlSide`, asked over the API."""

    def __init__(self, remote: Remote) -> None:
        """Ask with the rights of whoever calls."""
        self._client = remote.client

    def enrol(self, agent: str, public_key: str) -> Enrolment:
        """Let the agent in with this key and a new secret."""
        from sendense.model.coding import decode
        from sendense.model.enrolment import Enrolment

        body = {"public_key": public_key}
        return decode(Enrolment, dict(self._client.post_once(f"/hosts/{agent}/enrolment", body)))

    def restore(self, agent: str) -> None:
        """Let it in with what it had before, or not at all."""
        self._client.post(f"/hosts/{agent}/enrolment/undo")

    def heartbeat(self, agent: str) -> Heartbeat | None:
        """Ask the agent how it is; none if it cannot be reached."""
        from sendense.model.agent_status import Heartbeat
        from sendense.model.coding import decode

        try:
            return decode(Heartbeat, dict(self._client.get(f"/hosts/{agent}/heartbeat")))
        except (Unavailable, Rejected):
            return None

    def pause(self, agent: str) -> None:
        """Have it given no new work."""
        self._client.post(f"/hosts/{agent}/pause", {"minutes": _PAUSE_MINUTES})

    def resume(self, agent: str) -> None:
        """Have it given work again."""
        self._client.post(f"/hosts/{agent}/resume")


@dataclass
class _Row:
    """One host of the table."""

    name: str
    step: str = "waits"
    state: str = ""


class _Table:
    """What happens on all hosts, as it happens: a live table, or a line for each step."""

    def __init__(self, remote: Remote, names: Sequence[str]) -> None:
        self._remote = remote
        self._rows = {name: _Row(name) for name in names}
        self._lock = threading.Lock()
        self._live: Any = None

    @contextmanager
    def shown(self) -> Iterator[_Table]:
        """Show it while a block runs."""
        output = self._remote.run.output
        if output.as_json or output.quiet or not output.notes.is_terminal:
            yield self
            return
        from rich.live import Live

        with Live(self._drawn(), console=output.notes, refresh_per_second=4) as self._live:
            yield self

    def says(self, name: str, step: str, state: str = "") -> None:
        """Take note of a step."""
        with self._lock:
            self._rows[name] = _Row(name, step, state)
            if self._live is not None:
                self._live.update(self._drawn())
            else:
                self._remote.note(f"{name}: {step}{f' ({state})' if state else ''}")

    def _drawn(self) -> Any:  # noqa: ANN401 - a table of rich
        from rich.table import Table

        table = Table("host", "step", "state", box=None)
        for row in self._rows.values():
            table.add_row(row.name, row.step, row.state)
        return table


@taking(login_of, "login")
def deploy_hosts(
    remote: Remote,
    hosts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[HOST]...", help="Names or ids.", show_default=False),
    ] = None,
    *,
    login: Login,
    cloud: Annotated[
        str | None,
        typer.Option(
            "--cloud",
            metavar="CLOUD",
            help="All usable hosts of this cloud that have no agent, each with its pools.",
        ),
    ] = None,
    pool: Annotated[
        list[Path] | None,
        typer.Option(
            "--pool",
            metavar="DIR",
            help="Where restores may make new disks; may be repeated. The host's pools by default.",
            show_default=False,
        ),
    ] = None,
    agent_settings: Annotated[
        Path | None,
        typer.Option(
            "--agent-settings", metavar="FILE", help="YAML with further settings of the agent."
        ),
    ] = None,
    parallel: ParallelOption = 10,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only look at the hosts, and say what would be done.")
    ] = False,
) -> ExitCode:
    """Bring the agent to hosts over SSH; one that fails is as it was before."""
    if bool(hosts) == (cloud is not None):
        raise Rejected("hosts are named, or their cloud is", hint="give HOST... or --cloud")
    pools = tuple(str(item) for item in pool) if pool else None
    work = _Deploying(remote, login, pools, _more(agent_settings))
    act = work.look if dry_run else work.deploy
    if cloud is None:
        return work.on_all(hosts or [], act, parallel)
    found = hosts_of_cloud(remote, cloud, register=not dry_run)
    work.pools_of = {} if pools else found.pools
    if not found.hosts:
        remote.show({"hosts": []}, "every usable host of this cloud has an agent")
        return ExitCode.OK
    return work.on_these(found.hosts, act, parallel)


@taking(login_of, "login")
def upgrade_hosts(
    remote: Remote,
    hosts: HostsArgument,
    *,
    login: Login,
    parallel: ParallelOption = 10,
) -> ExitCode:
    """Replace the agents of hosts by this version, each when its work has ended."""
    work = _Deploying(remote, login, None, {})
    return work.on_all(hosts, work.upgrade, parallel)


@taking(login_of, "login")
def remove_hosts(
    remote: Remote,
    hosts: HostsArgument,
    *,
    login: Login,
    forget_only: Annotated[
        bool,
        typer.Option(
            "--forget-only", help="Touch nothing on the host: it is gone, or has no agent."
        ),
    ] = False,
    yes: Yes = False,
) -> ExitCode:
    """Take our bitmaps off a host's machines and the agent off the host, and forget the host."""
    if not yes:
        confirm(f"Remove {', '.join(hosts)}? Instances and their points stay.", remote.run)
    work = _Deploying(remote, login, None, {})
    return work.on_all(hosts, work.forget if forget_only else work.remove, 1)


def register(app: typer.Typer) -> None:
    """Put the commands into the group."""
    app.command("deploy")(asks(deploy_hosts))
    app.command("upgrade")(asks(upgrade_hosts))
    app.command("remove")(asks(remove_hosts))


class _Deploying:
    """One command over some hosts."""

    def __init__(
        self, remote: Remote, login: Login, pools: tuple[str, ...] | None, more: dict[str, Any]
    ) -> None:
        self._remote = remote
        self._login = login
        self._pools = pools
        self.pools_of: Mapping[str, tuple[str, ...]] = {}
        """What hosts have of their own, by id."""
        self._more = more
        self._side = RestSide(remote)
        self._table: _Table | None = None

    def on_all(
        self, names: Sequence[str], act: Callable[[Doc], dict[str, Any]], parallel: int
    ) -> ExitCode:
        """Do something for all hosts that are named; gives the worst of their exit codes."""
        return self.on_these([self._remote.names.host(name) for name in names], act, parallel)

    def on_these(
        self, found: Sequence[Doc], act: Callable[[Doc], dict[str, Any]], parallel: int
    ) -> ExitCode:
        """Do something for all of these hosts."""
        from sendense.fleet.deploy import on_many

        documents, codes = [], []
        table = _Table(self._remote, [str(host["name"]) for host in found])
        with table.shown() as self._table:
            for host, result in on_many(found, act, parallel=parallel):
                name = str(host["name"])
                if isinstance(result, SendenseError):
                    table.says(name, "failed", result.message)
                    codes.append(code_of(result))
                    documents.append({"host": name, "error": result.to_dict()})
                else:
                    table.says(name, "done", str(result.get("said", "")))
                    documents.append({"host": name, **result})
        self._remote.show({"hosts": documents}, _sheet(documents))
        return worst(codes)

    def look(self, host: Doc) -> dict[str, Any]:
        """Look at a host, and say what would be done."""
        from sendense.fleet.ssh import RemoteHand

        with RemoteHand(self._access(host)) as hand:
            plan = self._plan(hand, host)
        return {
            "said": "ready" if plan.preflight.ready else "not ready",
            "system": plan.preflight.system,
            "findings": [
                {"check": item.check, "level": item.level.value, "message": item.message,
                 "fix": item.fix}
                for item in plan.preflight.findings
            ],
            "steps": [{"step": step.text, "reason": step.reason} for step in plan.steps],
        }  # fmt: skip

    def deploy(self, host: Doc) -> dict[str, Any]:
        """Bring the agent to a host."""
        from sendense.fleet.deploy import deploy
        from sendense.fleet.ssh import RemoteHand

        with RemoteHand(self._access(host)) as hand:
            plan = self._plan(hand, host)
            return _deployed(deploy(hand, plan, self._side, self._reporting(host)))

    def upgrade(self, host: Doc) -> dict[str, Any]:
        """Replace the agent of a host."""
        from sendense.fleet.deploy import upgrade
        from sendense.fleet.ssh import RemoteHand

        with RemoteHand(self._access(host)) as hand:
            plan = self._plan(hand, host)
            report = self._reporting(host)
            return _deployed(upgrade(hand, plan, self._side, self._side, report))

    def remove(self, host: Doc) -> dict[str, Any]:
        """Take everything of ours off a host, and forget it."""
        from sendense.fleet.deploy import remove
        from sendense.fleet.ssh import RemoteHand

        left: list[str] = []

        def release() -> None:
            answer = self._remote.client.post(f"/hosts/{host['id']}/release")
            left.extend(str(item) for item in answer["left"])

        with RemoteHand(self._access(host)) as hand:
            remove(hand, release)
        return {**self.forget(host), "left": left}

    def forget(self, host: Doc) -> dict[str, Any]:
        """Forget a host."""
        self._remote.client.delete(f"/hosts/{host['id']}")
        return {"said": "removed", "removed": host["id"]}

    def _access(self, host: Doc) -> Access:
        return self._login.to(str(host["address"]), self._remote.run.warn)

    def _plan(self, hand: Any, host: Doc) -> DeploymentPlan:  # noqa: ANN401 - a RemoteHand
        from sendense.fleet.bundle import build_bundle
        from sendense.fleet.deploy_plan import AgentConfig, plan_deployment
        from sendense.fleet.preflight import examine

        gateway = self._remote.client.get("/gateway")
        preflight = examine(hand, (str(gateway["host"]), int(gateway["port"])))
        config = AgentConfig(
            str(host["id"]),
            pools=self.pools_of.get(str(host["id"]), self._pools),
            more=self._more,
        )
        return plan_deployment(preflight, config, build_bundle())

    def _reporting(self, host: Doc) -> Callable[[Step], None]:
        def report(step: Step) -> None:
            if self._table is not None:
                self._table.says(str(host["name"]), step.text, step.reason)

        return report


def _deployed(done: Deployed) -> dict[str, Any]:
    facts = done.heartbeat.facts
    return {
        "said": f"{done.version} answers after {done.took_s:.0f} s",
        "version": done.version,
        "versions": facts.versions,
        "incremental": facts.incremental,
        "seconds": round(done.took_s, 1),
    }


def _sheet(documents: Sequence[dict[str, Any]]) -> Sheet:
    rows = []
    for each in sorted(documents, key=lambda each: str(each["host"])):
        error = each.get("error")
        if error is not None:
            hint = f"; {error['hint']}" if error["hint"] else ""
            rows.append((str(each["host"]), "failed", f"{error['message']}{hint}"))
            continue
        findings = [
            f"{item['check']}: {item['message']}" + (f" ({item['fix']})" if item["fix"] else "")
            for item in each.get("findings", ())
            if item["level"] != "ok"
        ]
        steps = [step["step"] for step in each.get("steps", ())]
        detail = "; ".join([*findings, *steps]) or str(each.get("versions") or "")
        rows.append((str(each["host"]), str(each["said"]), detail))
    return Sheet((Column("host"), Column("result"), Column("detail", fold=True)), rows)


def _more(file: Path | None) -> dict[str, Any]:
    """Read further settings of agents, as an operator wrote them."""
    if file is None:
        return {}
    import yaml

    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise Rejected(f"{file} cannot be read: {error}") from error
    if isinstance(content, dict) and set(content) == {"kvm_agent"}:
        content = content["kvm_agent"]
    if not isinstance(content, dict):
        raise Rejected(f"{file} holds no settings", hint="docs/agent.md lists them")
    return content
