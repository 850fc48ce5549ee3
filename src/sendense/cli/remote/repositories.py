"""``sendense repository``: those that the server uses.  Their secrets come from files only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sendense.cli.access import read_credentials
from sendense.cli.options import PassphraseFileOption
from sendense.cli.output import Column, Sheet, pairs
from sendense.cli.passphrase import PassphraseSource
from sendense.cli.points import confirm
from sendense.cli.remote.frame import SOME, Limit, Remote, Search, Taken, Yes, asks
from sendense.cli.remote.words import size, when
from sendense.cli.text import counted, yes
from sendense.errors import Rejected

app = typer.Typer(
    name="repository", help="Repositories that the server uses.", no_args_is_help=True
)


def register(program: typer.Typer) -> None:
    """Put the group into the program."""
    program.add_typer(app)


RepositoryArgument = Annotated[
    str, typer.Argument(metavar="REPOSITORY", help="Name or id.", show_default=False)
]
AskPassphrase = Annotated[
    bool, typer.Option("--ask-passphrase", help="Type its passphrase on the terminal.")
]
CredentialsFile = Annotated[
    Path | None,
    typer.Option("--credentials-file", metavar="FILE", help="What its store asks for, as YAML."),
]


@app.command("add")
@asks
def add_repository(
    remote: Remote,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.", show_default=False)],
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Where the server finds it.", show_default=False)
    ],
    *,
    create: Annotated[
        bool, typer.Option("--create", help="Make it, in a place that is empty.")
    ] = False,
    passphrase_file: PassphraseFileOption = None,
    ask_passphrase: AskPassphrase = False,
    credentials_file: CredentialsFile = None,
) -> None:
    """Have the server use a repository: one that is there, or a new one."""
    secrets = _secrets(remote, passphrase_file, credentials_file, ask=ask_passphrase, new=create)
    made = remote.client.post(
        "/repositories", {"name": name, "url": url, "create": create} | secrets
    )
    remote.show({"repository": made}, f"the server uses {made['name']}, {made['url']}")


@app.command("list")
@asks
def list_repositories(remote: Remote, search: Search = None, limit: Limit = SOME) -> None:
    """List the repositories that the server uses."""
    taken = Taken(remote.client.every("/repositories", search=search), limit)
    columns = (
        Column("repository"),
        Column("url"),
        Column("passphrase", minor=2),
        Column("credentials", minor=2),
        Column("id", minor=3),
    )
    rows = [
        (
            str(each["name"]),
            str(each["url"]),
            yes(bool(each["has_passphrase"])),
            yes(bool(each["has_credentials"])),
            str(each["id"]),
        )
        for each in taken.items
    ]
    part = Sheet(columns, rows) if rows else "the server uses no repository"
    remote.show(taken.document("repositories"), part)
    taken.tell(remote)


@app.command("show")
@asks
def show_repository(
    remote: Remote,
    repository: RepositoryArgument,
    *,
    look: Annotated[
        bool, typer.Option("--look", help="Open it, and show what it says itself.")
    ] = False,
) -> None:
    """Show a repository, and what the server knows of its content."""
    found = remote.names.repository(repository)
    facts = [
        ("repository", str(found["name"])),
        ("id", str(found["id"])),
        ("url", str(found["url"])),
        ("added", when(found.moment("created_at"))),
        ("passphrase", "kept by the server" if found["has_passphrase"] else "none"),
        ("credentials", "kept by the server" if found["has_credentials"] else "none"),
        ("points", f"{found['points']} of {counted(int(found['machines']), 'machine')}"),
        ("stored", size(found["stored_bytes"])),
    ]
    document: dict[str, Any] = {"repository": found}
    if look:
        seen = remote.client.get(f"/repositories/{found['id']}/info")
        document["info"] = seen
        facts += [
            ("itself says", f"{seen['kind']} at {seen['location']}"),
            ("  points", f"{seen['points']} of {counted(int(seen['machines']), 'machine')}"),
            ("  stored", size(seen["stored_bytes"])),
            ("  free", size(seen["free_bytes"])),
        ]
    remote.show(document, pairs(facts))


@app.command("edit")
@asks
def edit_repository(
    remote: Remote,
    repository: RepositoryArgument,
    *,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Its new name.")] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the server finds it now.")
    ] = None,
    passphrase_file: PassphraseFileOption = None,
    ask_passphrase: AskPassphrase = False,
    credentials_file: CredentialsFile = None,
) -> None:
    """Change a repository's name, place or secrets; what is stored is not moved."""
    change = {"name": name, "url": url}
    body = {key: value for key, value in change.items() if value is not None}
    body |= _secrets(remote, passphrase_file, credentials_file, ask=ask_passphrase, new=False)
    if not body:
        raise Rejected("nothing was named that is to be different", hint="see --help")
    found = remote.names.repository(repository)
    edited = remote.client.patch(f"/repositories/{found['id']}", body)
    remote.show({"repository": edited}, f"{edited['name']} was changed")


@app.command("remove")
@asks
def remove_repository(remote: Remote, repository: RepositoryArgument, *, yes: Yes = False) -> None:
    """Have the server forget a repository; in it nothing is changed."""
    found = remote.names.repository(repository)
    if not yes:
        confirm(f"Forget the repository {found['name']}?", remote.run)
    remote.client.delete(f"/repositories/{found['id']}")
    remote.show({"removed": found["id"]}, f"the server uses {found['name']} no longer")


@app.command("relist")
@asks
def relist_repository(remote: Remote, repository: RepositoryArgument) -> None:
    """Make the server's list of a repository's points again, from what is stored."""
    found = remote.names.repository(repository)
    listed = remote.client.post(f"/repositories/{found['id']}/list")
    points = int(listed["points"])
    remote.show({"points": points}, f"{found['name']} has {counted(points, 'point')}")


def _secrets(
    remote: Remote, passphrase_file: Path | None, credentials_file: Path | None, *, ask: bool,
    new: bool,
) -> dict[str, Any]:  # fmt: skip
    """Read the secrets of a repository; they leave this process in the request alone."""
    file = passphrase_file or remote.options.passphrase_file
    if ask and file is not None:
        raise Rejected("both a file and a question are named for the passphrase")
    secrets: dict[str, Any] = {}
    if ask or file is not None:
        source = PassphraseSource(file=file, variable=None)
        warn = remote.run.warn
        passphrase = source.new(warn) if new else source.existing(warn)
        secrets["passphrase"] = _text(passphrase.reveal(), "the passphrase")
    if credentials_file is not None:
        secrets["credentials"] = {
            key: _text(value.reveal(), "one of the credentials")
            for key, value in read_credentials(credentials_file, remote.run.warn).items()
        }
    return secrets


def _text(secret: bytes, what: str) -> str:
    try:
        return secret.decode()
    except UnicodeDecodeError:
        # Not chained: the error would show a piece of it.
        raise Rejected(f"{what} is not UTF-8", hint="the server takes text only") from None
