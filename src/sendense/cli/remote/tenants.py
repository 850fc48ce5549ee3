"""``sendense tenant``: accounts, domains and projects of clouds, with what is agreed with them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sendense.cli.output import Column, Sheet, pairs
from sendense.cli.points import confirm
from sendense.cli.remote.answers import Doc
from sendense.cli.remote.frame import SOME, Limit, Remote, Search, Taken, Yes, asks
from sendense.cli.remote.words import size, some
from sendense.cli.text import counted
from sendense.errors import NotFound, Rejected
from sendense.model.access import Role
from sendense.units import parse_size

app = typer.Typer(name="tenant", help="Tenants: owners in clouds.", no_args_is_help=True)

_NONE = "none"
_SHOWN = 20


def register(program: typer.Typer) -> None:
    """Put the group into the program."""
    program.add_typer(app)


TenantArgument = Annotated[
    str, typer.Argument(metavar="TENANT", help="Name or id.", show_default=False)
]
CloudOption = Annotated[
    str | None, typer.Option("--cloud", metavar="CLOUD", help="Of this cloud, by name or id.")
]
RepositoryOption = Annotated[
    str | None,
    typer.Option(
        "--repository", metavar="REPOSITORY",
        help="Its points go there, whatever policies say; none: where policies say.",
    ),
]  # fmt: skip
QuotaOption = Annotated[
    str | None,
    typer.Option(
        "--quota", metavar="SIZE",
        help="Its points store so much at most, 500G or 2T; none: any number.",
    ),
]  # fmt: skip


@app.command("add")
@asks
def add_tenant(
    remote: Remote,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Its name.", show_default=False)
    ] = None,
    *,
    cloud: CloudOption = None,
    domain: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="A domain with all below it: ROOT/customers/acme."),
    ] = None,
    account: Annotated[
        str | None, typer.Option(metavar="NAME", help="One account, of the domain if given.")
    ] = None,
    project: Annotated[
        str | None, typer.Option(metavar="PROJECT", help="A project, by name or id.")
    ] = None,
    repository: RepositoryOption = None,
    quota: QuotaOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="All accounts and projects that are none yet.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --all: show them, and add none.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Make a tenant of a domain, an account or a project; or tenants of all with --all."""
    if cloud is None:
        raise Rejected("a tenant is somebody of a cloud", hint="give --cloud")
    place = _cloud(remote, cloud)
    one = {"domain": domain, "account": account, "project": project}
    if every:
        if name or any(one.values()) or repository or quota:
            raise Rejected(
                "--all goes with --cloud and --dry-run alone",
                hint="'sendense tenant edit' gives them a repository and a quota afterwards",
            )
        return _add_all(remote, place, dry_run=dry_run, yes=yes)
    if name is None or dry_run:
        raise Rejected("which tenant is not said", hint="give a name, or --all")
    body: dict[str, Any] = {"name": name, "cloud_id": place["id"]}
    body |= {key: value for key, value in one.items() if value}
    body |= _agreed(remote, repository, quota, none={})
    made = remote.client.post("/tenants", body)
    remote.show({"tenant": made}, f"the tenant {made['name']} was added: {_owner(made)}")
    return None


def _add_all(remote: Remote, cloud: Doc, *, dry_run: bool, yes: bool) -> None:
    path = f"/clouds/{cloud['id']}/tenants"
    found = remote.client.look(path, {"dry_run": True})
    rows = [(str(each["name"]), _owner(each)) for each in found.parts("tenants")]
    sheet = Sheet((Column("tenant"), Column("owner", fold=True)), rows)
    if dry_run or not rows:
        remote.show(found, sheet if rows else f"all of {cloud['name']} are tenants already")
        return
    if not yes:
        shown = [f"{name}: {owner}" for name, owner in rows[:_SHOWN]]
        more = [f"... and {len(rows) - _SHOWN} more"] if len(rows) > _SHOWN else []
        remote.note("\n".join([*shown, *more]))
        confirm(f"Add {counted(len(rows), 'tenant')} of {cloud['name']}?", remote.run)
    made = remote.client.post(path, {"dry_run": False})
    count = counted(len(made.parts("tenants")), "tenant")
    remote.show(made, f"{count} of {cloud['name']} added")


@app.command("list")
@asks
def list_tenants(
    remote: Remote, search: Search = None, cloud: CloudOption = None, limit: Limit = SOME
) -> None:
    """List tenants by name, with what each stores."""
    cloud_id = None if cloud is None else _cloud(remote, cloud)["id"]
    taken = Taken(remote.client.every("/tenants", search=search, cloud_id=cloud_id), limit)
    columns = (
        Column("tenant"),
        Column("cloud"),
        Column("owner", fold=True, minor=2),
        Column("stored", right=True),
        Column("quota", right=True),
        Column("repository", minor=1),
    )
    rows = [
        (
            str(each["name"]),
            str(each["cloud"]),
            _owner(each),
            size(each["stored_bytes"]),
            size(each["quota_bytes"]),
            some(remote.names.repository_name(each["repository_id"])),
        )
        for each in taken.items
    ]
    part = Sheet(columns, rows) if rows else "there is no tenant"
    remote.show(taken.document("tenants"), part)
    taken.tell(remote)


@app.command("show")
@asks
def show_tenant(
    remote: Remote,
    tenant: Annotated[
        str | None,
        typer.Argument(
            metavar="TENANT", help="Name or id; a tenant leaves it out.", show_default=False
        ),
    ] = None,
) -> None:
    """Show a tenant, and what it stores; a tenant sees its own quotas and use."""
    if tenant is None:
        return _show_own(remote)
    found = remote.names.tenant(tenant)
    own = remote.names.repository_name(found["repository_id"])
    facts = [
        ("tenant", str(found["name"])),
        ("id", str(found["id"])),
        ("cloud", str(found["cloud"])),
        ("owner", _owner(found)),
        ("repository", own or "none of its own: where policies say"),
        ("quota", _quota_words(found)),
        ("stored", size(found["stored_bytes"])),
    ]
    remote.show({"tenant": found}, pairs(facts))
    return None


def _show_own(remote: Remote) -> None:
    if remote.client.get("/whoami")["role"] != Role.TENANT.value:
        raise Rejected("which tenant is not said", hint="give its name: 'sendense tenant list'")
    usage = remote.client.get("/usage")
    facts = [
        ("instances", str(usage["instances"])),
        ("points", str(usage["points"])),
        ("stored", size(usage["stored_bytes"])),
    ]
    columns = (
        Column("tenant"),
        Column("owner", fold=True, minor=1),
        Column("stored", right=True),
        Column("quota", right=True),
        Column("left", right=True),
    )
    rows = [
        (
            str(each["name"]),
            _owner_named(each, str(each["project"])),
            size(each["stored_bytes"]),
            size(each["quota_bytes"]),
            size(each["left_bytes"]),
        )
        for each in usage.parts("tenants")
    ]
    part = Sheet(columns, rows) if rows else "no quota is agreed"
    remote.show({"usage": usage}, pairs(facts), part)


@app.command("edit")
@asks
def edit_tenant(
    remote: Remote,
    tenant: TenantArgument,
    *,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Its new name.")] = None,
    repository: RepositoryOption = None,
    quota: QuotaOption = None,
) -> None:
    """Change a tenant's name, repository or quota; points that are stored stay where they are."""
    body: dict[str, Any] = {} if name is None else {"name": name}
    body |= _agreed(remote, repository, quota, none={"repository_id": "", "quota_bytes": -1})
    if not body:
        raise Rejected("nothing was named that is to be different", hint="see --help")
    changed = remote.client.patch(f"/tenants/{remote.names.tenant(tenant)['id']}", body)
    remote.show({"tenant": changed}, f"the tenant {changed['name']} was changed")


@app.command("remove")
@asks
def remove_tenant(remote: Remote, tenant: TenantArgument, *, yes: Yes = False) -> None:
    """Have a tenant be none; its instances, points and users stay."""
    found = remote.names.tenant(tenant)
    if not yes:
        confirm(f"Remove the tenant {found['name']}? Its points stay.", remote.run)
    remote.client.delete(f"/tenants/{found['id']}")
    remote.show({"removed": found["name"]}, f"the tenant {found['name']} was removed")


def _agreed(
    remote: Remote, repository: str | None, quota: str | None, *, none: dict[str, Any]
) -> dict[str, Any]:
    """Read what is agreed; ``none`` says how a server is told that there is nothing."""
    body: dict[str, Any] = {}
    if repository is not None and repository != _NONE:
        body["repository_id"] = remote.names.repository_id(repository)
    elif repository is not None and "repository_id" in none:
        body["repository_id"] = none["repository_id"]
    if quota is not None and quota != _NONE:
        body["quota_bytes"] = parse_size(quota)
    elif quota is not None and "quota_bytes" in none:
        body["quota_bytes"] = none["quota_bytes"]
    return body


def _owner(tenant: Doc) -> str:
    """Name whose instances are a tenant's."""
    if tenant["project_id"]:
        return f"project {tenant['project'] or tenant['project_id']}"
    return _owner_named(tenant, "", str(tenant["domain_id"]))


def _owner_named(tenant: Doc, project: str, domain_id: str = "") -> str:
    domain = tenant["domain_path"] or domain_id
    if project or not domain:
        return f"project {project}".strip()
    return f"account {domain}/{tenant['account']}" if tenant["account"] else f"domain {domain}"


def _quota_words(tenant: Doc) -> str:
    quota = tenant["quota_bytes"]
    if quota is None:
        return "none: any number of bytes"
    share = f"{100 * tenant['stored_bytes'] / quota:.0f} % used" if quota else "nothing may begin"
    return f"{size(quota)}, {share}"


def _cloud(remote: Remote, typed: str) -> Doc:
    """Find a cloud by id or name."""
    for each in remote.client.every("/clouds"):
        if typed in (each["id"], each["name"]):
            return each
    raise NotFound(f"there is no cloud {typed}", hint="'sendense cloud list' lists them")
