"""``sendense host``: the KVM hosts, and the agents on them.

Deployment, upgrade and removal of agents are in :mod:`sendense.cli.remote.deploying`.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sendense.cli.exitcodes import ExitCode
from sendense.cli.output import Column, Sheet, pairs
from sendense.cli.points import confirm
from sendense.cli.remote import deploying
from sendense.cli.remote.answers import Doc
from sendense.cli.remote.frame import SOME, Limit, Remote, Search, Taken, Yes, asks
from sendense.cli.remote.host_work import register_work
from sendense.cli.remote.words import ago, some, when
from sendense.cli.text import counted
from sendense.model.agent_status import Level
from sendense.model.fleet import Transport

app = typer.Typer(name="host", help="KVM hosts, and the agents on them.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Put the group into the program."""
    deploying.register(app)
    program.add_typer(app)


HostArgument = Annotated[
    str, typer.Argument(metavar="HOST", help="Name or id.", show_default=False)
]


@app.command("add")
@asks
def add_host(
    remote: Remote,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.", show_default=False)],
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="Where SSH reaches it.", show_default=False)
    ],
    transport: Annotated[
        Transport, typer.Option(help="How the bytes of its disks travel.")
    ] = Transport.SSH,
) -> None:
    """Register a host. Its agent is deployed afterwards."""
    body = {"name": name, "address": address, "transport": transport.value}
    host = remote.client.post("/hosts", body)
    remote.show({"host": host}, f"the host {host['name']} is known as {host['id']}")


@app.command("list")
@asks
def list_hosts(
    remote: Remote,
    search: Search = None,
    transport: Annotated[Transport | None, typer.Option(help="Only with this transport.")] = None,
    revoked: Annotated[
        bool | None,
        typer.Option("--revoked/--not-revoked", help="Only those whose key was revoked, or not."),
    ] = None,
    limit: Limit = SOME,
) -> None:
    """List hosts by name."""
    wanted = transport.value if transport else None
    taken = Taken(
        remote.client.every("/hosts", search=search, transport=wanted, revoked=revoked), limit
    )
    columns = (
        Column("host"),
        Column("address", minor=1),
        Column("health"),
        Column("last seen"),
        Column("transport", minor=2),
        Column("version", minor=3),
        Column("id", minor=4),
    )
    rows = [
        (
            str(host["name"]),
            str(host["address"]),
            str(host["health"]),
            ago(host.moment("last_seen")),
            str(host["transport"]),
            some(host["version"]),
            str(host["id"]),
        )
        for host in taken.items
    ]
    part = Sheet(columns, rows) if rows else "no host is known"
    remote.show(taken.document("hosts"), part)
    taken.tell(remote)


@app.command("show")
@asks
def show_host(remote: Remote, host: HostArgument) -> None:
    """Show a host, and its agent as it described itself last."""
    found = remote.names.host(host)
    agent = _agent_of(remote, found)
    remote.show({"host": found, "agent": agent}, *_host_parts(found, agent))


@app.command("check")
@asks
def check_host(remote: Remote, host: HostArgument) -> ExitCode:
    """Ask a host's agent how it is, now; one that is not well is exit code 6."""
    found = remote.names.host(host)
    beat = remote.client.get(f"/hosts/{found['id']}/heartbeat")
    agent = Doc(beat["facts"], checks=beat["health"])
    bad = [check for check in beat.parts("health") if check["level"] != Level.OK.value]
    said = f"{counted(len(bad), 'check')} not passed" if bad else "is well"
    remote.show({"agent": agent}, f"{found['name']}: {said}; {agent['versions']}", *_checks(agent))
    return ExitCode.DAMAGED if bad else ExitCode.OK


@app.command("revoke")
@asks
def revoke_host(remote: Remote, host: HostArgument, *, yes: Yes = False) -> None:
    """Revoke the key of a host's agent: from now on it opens nothing."""
    found = remote.names.host(host)
    if not yes:
        confirm(f"Revoke the key of {found['name']}?", remote.run)
    revoked = remote.client.post(f"/hosts/{found['id']}/revoke")
    remote.show({"host": revoked}, f"the key of {revoked['name']} was revoked")


def _agent_of(remote: Remote, host: Doc) -> Doc:
    """Give the agent of a host; an empty one where there is none."""
    agents = remote.client.every("/agents", search=host["name"])
    return next((agent for agent in agents if agent["id"] == host["id"]), Doc())


def _host_parts(host: Doc, agent: Doc) -> list[Any]:
    facts = [
        ("host", str(host["name"])),
        ("id", str(host["id"])),
        ("address", str(host["address"])),
        ("transport", str(host["transport"])),
        ("health", str(host["health"])),
        ("last seen", ago(host.moment("last_seen"))),
        ("added", when(host.moment("created_at"))),
        ("enrolled", when(host.moment("enrolled_at"))),
    ]
    if host.get("paused_until"):
        facts.append(("no work until", when(host.moment("paused_until"))))
    if host["revoked_at"]:
        facts.append(("key revoked", when(host.moment("revoked_at"))))
    facts.append(("agent", some(agent.get("versions") or host["version"])))
    if agent:
        limit = agent["bandwidth_limit_mbps"]
        facts += [
            ("under way", f"{agent['running']} running, {agent['queued']} queued"),
            ("at once", some(agent["max_concurrent_vms"])),
            ("bandwidth", "no limit" if limit is None else f"{limit} Mbit/s"),
            ("window", agent["backup_window"] or "always"),
        ]
    return [pairs(facts), *_checks(agent)]


def _checks(agent: Doc) -> list[Sheet]:
    checks = agent.parts("checks") if agent else []
    if not checks:
        return []
    columns = (
        Column("level"),
        Column("check"),
        Column("finding", fold=True),
        Column("hint", fold=True),
    )
    rows = [
        (str(each["level"]), str(each["name"]), str(each["message"]), each["hint"] or "")
        for each in checks
    ]
    return [Sheet(columns, rows)]


register_work(app)
