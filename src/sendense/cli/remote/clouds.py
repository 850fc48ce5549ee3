"""``sendense cloud``: the CloudStacks whose instances are protected."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sendense.cli.exitcodes import ExitCode
from sendense.cli.points import confirm
from sendense.cli.remote import cloud_keys as given
from sendense.cli.remote import cloud_restore
from sendense.cli.remote import cloud_view as view
from sendense.cli.remote.frame import SOME, Limit, Remote, Search, Taken, Yes, asks
from sendense.errors import Rejected

app = typer.Typer(name="cloud", help="CloudStack clouds of the server.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Put the group into the program."""
    cloud_restore.register(app)
    program.add_typer(app)


CloudArgument = Annotated[
    str, typer.Argument(metavar="CLOUD", help="Name or id.", show_default=False)
]


@app.command("add")
@asks
def add_cloud(
    remote: Remote,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.", show_default=False)],
    endpoint: Annotated[
        str,
        typer.Argument(
            metavar="ENDPOINT", help="https://HOST[:8443]/client/api", show_default=False
        ),
    ],
    *,
    api_key: given.ApiKeyOption = None,
    secret_file: given.SecretFileOption = None,
    restore_api_key: given.RestoreKeyOption = None,
    restore_secret_file: given.RestoreSecretOption = None,
    cloud_ca_file: given.CaFileOption = None,
) -> None:
    """Know a cloud. Its secrets are kept by the server, encrypted."""
    if api_key is None:
        raise Rejected("a cloud is asked with a key", hint="give --api-key")
    keys = given.keys_body(remote, api_key, secret_file, restore_api_key, restore_secret_file)
    body: dict[str, str] = {"name": name, "endpoint": endpoint, **keys}
    if cloud_ca_file is not None:
        body["ca_pem"] = given.read_certificates(cloud_ca_file)
    made = remote.client.post("/clouds", body)
    remote.show(
        {"cloud": made},
        f"the cloud {made['name']} at {made['endpoint']} is known; "
        f"'sendense cloud check {made['name']}' asks it",
    )


@app.command("list")
@asks
def list_clouds(
    remote: Remote,
    search: Search = None,
    enabled: Annotated[
        bool | None,
        typer.Option("--enabled/--disabled", help="Only those that are looked at, or are not."),
    ] = None,
    limit: Limit = SOME,
) -> None:
    """List clouds by name, and how each answered last."""
    taken = Taken(remote.client.every("/clouds", search=search, enabled=enabled), limit)
    part = view.clouds_sheet(taken.items) if taken.items else "no cloud is known"
    remote.show(taken.document("clouds"), part)
    taken.tell(remote)


@app.command("show")
@asks
def show_cloud(remote: Remote, cloud: CloudArgument) -> None:
    """Show a cloud, and how it answered last."""
    found = remote.names.cloud(cloud)
    remote.show({"cloud": found}, view.cloud_facts(found))


@app.command("edit")
@asks
def edit_cloud(
    remote: Remote,
    cloud: CloudArgument,
    *,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Its new name.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Where its API is now.")
    ] = None,
    api_key: given.ApiKeyOption = None,
    secret_file: given.SecretFileOption = None,
    restore_api_key: given.RestoreKeyOption = None,
    restore_secret_file: given.RestoreSecretOption = None,
    forget_restore_key: Annotated[
        bool, typer.Option("--forget-restore-key", help="Restore with the key that reads.")
    ] = False,
    cloud_ca_file: given.CaFileOption = None,
    enable: Annotated[
        bool | None, typer.Option("--enable/--disable", help="Look at it, or no longer.")
    ] = None,
) -> None:
    """Change a cloud, or its keys: each with its secret."""
    body: dict[str, object] = {}
    body |= given.keys_body(remote, api_key, secret_file, restore_api_key, restore_secret_file)
    if cloud_ca_file is not None:
        body["ca_pem"] = given.read_certificates(cloud_ca_file)
    named = {"name": name, "endpoint": endpoint, "enabled": enable}
    body |= {key: value for key, value in named.items() if value is not None}
    if forget_restore_key:
        body["forget_restore_key"] = True
    if not body:
        raise Rejected("nothing was named that is to be different", hint="see --help")
    found = remote.names.cloud(cloud)
    after = remote.client.patch(f"/clouds/{found['id']}", body)
    remote.show({"cloud": after}, f"the cloud {after['name']} was changed")


@app.command("remove")
@asks
def remove_cloud(remote: Remote, cloud: CloudArgument, *, yes: Yes = False) -> None:
    """Forget a cloud and its inventory. In it nothing is changed, and points stay."""
    found = remote.names.cloud(cloud)
    if not yes:
        confirm(f"Forget the cloud {found['name']}? Points stay.", remote.run)
    remote.client.delete(f"/clouds/{found['id']}")
    remote.show({"removed": found["id"]}, f"the cloud {found['name']} was forgotten")


@app.command("check")
@asks
def check_cloud(remote: Remote, cloud: CloudArgument) -> ExitCode:
    """Ask a cloud how it is, and what its keys may; what keeps from backups is exit code 6."""
    found = remote.names.cloud(cloud)
    check = remote.client.look(f"/clouds/{found['id']}/check", {})
    remote.show({"check": check}, *view.check_parts(found, check))
    return ExitCode.OK if view.healthy(check) else ExitCode.DAMAGED


@app.command("role")
@asks
def show_role(
    remote: Remote,
    *,
    cloud: Annotated[
        str | None, typer.Option("--cloud", metavar="CLOUD", help="Only what this one has.")
    ] = None,
    name: Annotated[str, typer.Option(metavar="NAME", help="Of the role.")] = "sendense",
    restore: Annotated[bool, typer.Option("--restore", help="With what restores need.")] = False,
    webhooks: Annotated[bool, typer.Option("--webhooks", help="With what webhooks need.")] = False,
) -> None:
    """Print the commands that make a role for our keys, for CloudMonkey; read them first."""
    path = "/cloudstack/role"
    if cloud is not None:
        path = f"/clouds/{remote.names.cloud(cloud)['id']}/role"
    role = remote.client.get(path, name=name, restore=restore, webhooks=webhooks)
    remote.show({"role": role}, str(role["commands"]).rstrip())


@app.command("sync")
@asks
def sync_cloud(
    remote: Remote,
    cloud: CloudArgument,
    *,
    accept_gone: Annotated[
        bool, typer.Option("--accept-gone", help="What it does not show is gone indeed.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end.")] = False,
) -> ExitCode:
    """Read a cloud whole, now; the server does so by itself every quarter of an hour."""
    from sendense.cli.remote.watching import tell_ends, tell_submitted, watch

    found = remote.names.cloud(cloud)
    asked: dict[str, Any] = {"accept_gone": "true"} if accept_gone else {}
    job = remote.client.post(f"/clouds/{found['id']}/sync", **asked)
    if not wait:
        tell_submitted(remote, [job])
        return ExitCode.OK
    return tell_ends(remote, watch(remote, [job]))


@app.command("webhook")
@asks
def set_webhook(
    remote: Remote,
    cloud: CloudArgument,
    *,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="Of this server, as the cloud reaches it."),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Have it send its events no longer.")
    ] = False,
) -> None:
    """Have a cloud tell the server of changes at once, signed."""
    if remove == (url is not None):
        raise Rejected("a webhook is set or removed", hint="give --url or --remove")
    found = remote.names.cloud(cloud)
    path = f"/clouds/{found['id']}/webhook"
    if remove:
        remote.client.delete(path)
        after, said = remote.client.get(f"/clouds/{found['id']}"), "sends its events no longer"
    else:
        after, said = remote.client.post(path, {"url": url}), f"sends its events to {url}"
    remote.show({"cloud": after}, f"the cloud {found['name']} {said}")


@app.command("hosts")
@asks
def list_hosts(
    remote: Remote, cloud: CloudArgument, search: Search = None, limit: Limit = SOME
) -> None:
    """List the hosts of a cloud: which can be used, and which have an agent."""
    found = remote.names.cloud(cloud)
    taken = Taken(remote.client.every(f"/clouds/{found['id']}/hosts", search=search), limit)
    part = view.hosts_sheet(taken.items) if taken.items else "no host of this cloud is known"
    remote.show(taken.document("hosts"), part)
    taken.tell(remote)


@app.command("changes")
@asks
def list_changes(
    remote: Remote,
    cloud: CloudArgument,
    *,
    kind: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="Only of this kind: instance, host, pool, ..."),
    ] = None,
    of: Annotated[
        str | None, typer.Option("--of", metavar="ID", help="Only of this, by its UUID.")
    ] = None,
    what: Annotated[
        str | None, typer.Option(metavar="WHAT", help="appeared, changed or gone.")
    ] = None,
    limit: Limit = SOME,
) -> None:
    """List what appeared in a cloud, changed and went, newest first."""
    found = remote.names.cloud(cloud)
    changes = remote.client.every(
        f"/clouds/{found['id']}/changes", kind=kind, object_id=of, what=what
    )
    taken = Taken(changes, limit)
    part = view.changes_sheet(taken.items) if taken.items else "nothing changed"
    remote.show(taken.document("changes"), part)
    taken.tell(remote)
