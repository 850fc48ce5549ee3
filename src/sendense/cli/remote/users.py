"""``sendense user``: who may ask the server."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sendense.cli.output import Column, Sheet, pairs
from sendense.cli.points import confirm
from sendense.cli.remote.answers import Doc
from sendense.cli.remote.frame import SOME, Limit, Remote, Search, Taken, Yes, asks
from sendense.cli.remote.names import as_user
from sendense.cli.remote.words import when
from sendense.cli.text import counted, yes
from sendense.errors import Rejected
from sendense.model.access import Role

app = typer.Typer(name="user", help="Users of the server.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Put the group into the program."""
    program.add_typer(app)


UserArgument = Annotated[str, typer.Argument(metavar="USER", help="Its name.", show_default=False)]
RoleArgument = Annotated[Role, typer.Argument(help="What it may do at most.", show_default=False)]
GrantInstance = Annotated[
    list[str] | None,
    typer.Option(
        "--instance", metavar="INSTANCE",
        help="A tenant sees this one, by name or UUID; may be given several times.",
    ),
]  # fmt: skip
GrantMatch = Annotated[
    list[str] | None,
    typer.Option(
        "--match", metavar="PATTERN",
        help="A tenant sees those whose name fits, acme-*; may be given several times.",
    ),
]  # fmt: skip


@app.command("add")
@asks
def add_user(
    remote: Remote,
    user: UserArgument,
    role: RoleArgument,
    *,
    instance: GrantInstance = None,
    match: GrantMatch = None,
) -> None:
    """Add a user. It asks with tokens: make it one."""
    grant = _grant(remote, instance, match, Doc(instances=[], names=[], tenants=[]))
    body = {"name": user, "role": role.value, **({"grant": grant} if grant else {})}
    made = remote.client.post("/users", body)
    remote.show({"user": made}, f"the user {made['name']} ({made['role']}) was added")
    remote.note(f"to make it a token: sendense token add NAME --user {made['name']}")


@app.command("list")
@asks
def list_users(
    remote: Remote,
    search: Search = None,
    role: Annotated[Role | None, typer.Option(help="Only with this role.")] = None,
    limit: Limit = SOME,
) -> None:
    """List users by name."""
    taken = Taken(
        remote.client.every("/users", search=search, role=role.value if role else None), limit
    )
    columns = (
        Column("user", fold=True),
        Column("called", fold=True),
        Column("role"),
        Column("disabled"),
        Column("sees", fold=True, minor=1),
        Column("added", minor=2),
    )
    rows = [
        (
            str(each["name"]),
            _called(each),
            str(each["role"]),
            yes(bool(each["disabled"])),
            _grant_words(each),
            when(each.moment("created_at")),
        )
        for each in taken.items
    ]
    part = Sheet(columns, rows) if rows else "there is no such user"
    remote.show(taken.document("users"), part)
    taken.tell(remote)


@app.command("show")
@asks
def show_user(remote: Remote, user: UserArgument) -> None:
    """Show a user."""
    found = remote.client.get(f"/users/{as_user(user)}")
    facts = [
        ("user", str(found["name"])),
        *([("called", _called(found))] if _called(found) != "" else []),
        ("role", str(found["role"])),
        ("disabled", yes(bool(found["disabled"]))),
        ("sees", _grant_words(found)),
        ("added", when(found.moment("created_at"))),
    ]
    remote.show({"user": found}, pairs(facts))


@app.command("edit")
@asks
def edit_user(
    remote: Remote,
    user: UserArgument,
    *,
    role: Annotated[Role | None, typer.Option(help="What it may do at most.")] = None,
    disabled: Annotated[
        bool | None,
        typer.Option("--disable/--enable", help="None of its tokens counts; or they count again."),
    ] = None,
    instance: GrantInstance = None,
    match: GrantMatch = None,
) -> None:
    """Change a user; it counts for its tokens at once."""
    path = f"/users/{as_user(user)}"
    body: dict[str, Any] = {}
    if role is not None:
        body["role"] = role.value
    if disabled is not None:
        body["disabled"] = disabled
    if instance is not None or match is not None:
        # What is not named of it stays.
        body["grant"] = _grant(remote, instance, match, remote.client.get(path).part("grant"))
    if not body:
        raise Rejected("nothing was named that is to be different", hint="see --help")
    changed = remote.client.patch(path, body)
    remote.show({"user": changed}, f"the user {changed['name']} was changed")


@app.command("remove")
@asks
def remove_user(remote: Remote, user: UserArgument, *, yes: Yes = False) -> None:
    """Remove a user with its tokens."""
    path = f"/users/{as_user(user)}"
    if not yes:
        confirm(f"Remove the user {user} with its tokens?", remote.run)
    remote.client.delete(path)
    remote.show({"removed": user}, f"the user {user} was removed")


def _called(user: Doc) -> str:
    """Give what people call a user, where its name is made of ids."""
    words = user.get("called") or ""
    return "" if words == user["name"] else str(words)


def _grant(
    remote: Remote, instance: list[str] | None, match: list[str] | None, before: Doc
) -> dict[str, Any] | None:
    if instance is None and match is None:
        return None
    uuids = before["instances"]
    if instance is not None:
        uuids = [remote.names.instance_uuid(each) for each in instance]
    names = before["names"] if match is None else match
    return {"instances": uuids, "names": names, "tenants": before["tenants"]}


def _grant_words(user: Doc) -> str:
    if user["role"] != Role.TENANT.value:
        return "everything"
    grant = user.part("grant")
    words = list(map(str, grant["names"]))
    if grant["instances"]:
        words.append(counted(len(grant["instances"]), "instance"))
    words.extend(_owner_words(each) for each in grant["tenants"])
    return ", ".join(words) or "nothing"


def _owner_words(scope: dict[str, str]) -> str:
    """Name whose instances a grant takes."""
    if scope["project_id"]:
        return f"all of project {scope['project_id']}"
    domain = scope["domain_path"] or scope["domain_id"]
    return f"all of {domain}/{scope['account']}" if scope["account"] else f"all in {domain}"
