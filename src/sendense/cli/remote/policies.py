"""``sendense policy``: which instances are backed up, when, to where, and what is kept."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sendense.cli.options import taking
from sendense.cli.output import Column, Sheet, pairs
from sendense.cli.points import confirm
from sendense.cli.remote import policy_options as given
from sendense.cli.remote import rounds
from sendense.cli.remote.answers import Doc
from sendense.cli.remote.frame import SOME, Limit, Remote, Search, Taken, Yes, asks
from sendense.cli.remote.rounds import PolicyArgument
from sendense.cli.remote.words import some, when
from sendense.cli.text import counted, yes
from sendense.errors import Rejected
from sendense.units import format_seconds

app = typer.Typer(name="policy", help="Policies of the server.", no_args_is_help=True)


def register(program: typer.Typer) -> None:
    """Put the group into the program."""
    program.add_typer(app)


rounds.register(app)
_SHOWN = 20
_NAMED = 5


@app.command("add")
@asks
@taking(given.typed, "typed")
def add_policy(
    remote: Remote,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name.", show_default=False)],
    *,
    typed: dict[str, Any],
    disabled: Annotated[
        bool, typer.Option("--disabled", help="Make it, and do not let it act yet.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would take, and when.")
    ] = False,
) -> None:
    """Make a policy. It acts from its next due time on."""
    if typed["to"] is None or typed["schedule"] is None:
        raise Rejected(
            "a policy needs a repository and a schedule", hint="give --to and --schedule"
        )
    if not any(typed[kind] for kind in given.TAKING):
        raise Rejected(
            "nothing says which instances the policy takes",
            hint="give --match, --tag, --cloud, --instance or the like; --match '*' takes all",
        )
    empty: dict[str, Any] = {"name": name, "enabled": not disabled, "match": {}, "keep": {}}
    body = given.changed(empty, remote.names, typed)
    if dry_run:
        _show_preview(remote, remote.client.look("/policies/preview", body))
        return
    policy = remote.client.post("/policies", body)
    remote.show({"policy": policy}, f"the policy {policy['name']} was made ({policy['id']})")


@app.command("edit")
@asks
@taking(given.typed, "typed")
def edit_policy(
    remote: Remote,
    policy: PolicyArgument,
    *,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Its new name.")] = None,
    typed: dict[str, Any],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what it would take then, and when.")
    ] = False,
) -> None:
    """Change what is named of a policy; lists that are named replace those that were."""
    known = remote.names.policy(policy)
    before = given.editable(known)
    body = given.changed(before, remote.names, typed) | ({"name": name} if name else {})
    if body == before:
        raise Rejected("nothing was named that is to be different", hint="see --help")
    if dry_run:
        _show_preview(remote, remote.client.look("/policies/preview", body))
        return
    after = remote.client.put(f"/policies/{known['id']}", body)
    remote.show({"policy": after}, f"the policy {after['name']} was changed")


@app.command("list")
@asks
def list_policies(
    remote: Remote,
    search: Search = None,
    enabled: Annotated[
        bool | None,
        typer.Option("--enabled/--disabled", help="Only those that act, or do not."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="REPOSITORY", help="Only those into this repository."),
    ] = None,
    limit: Limit = SOME,
) -> None:
    """List policies by name."""
    repository_id = remote.names.repository_id(to)
    taken = Taken(
        remote.client.every(
            "/policies", search=search, enabled=enabled, repository_id=repository_id
        ),
        limit,
    )
    columns = (
        Column("policy"),
        Column("enabled"),
        Column("schedule"),
        Column("zone", minor=2),
        Column("to"),
        Column("takes", fold=True, minor=1),
        Column("id", minor=3),
    )
    rows = [
        (
            str(each["name"]),
            yes(bool(each["enabled"])),
            str(each["schedule"]),
            str(each["timezone"]),
            remote.names.repository_name(each["repository_id"]),
            _match_words(remote, each.part("match")),
            str(each["id"]),
        )
        for each in taken.items
    ]
    part = Sheet(columns, rows) if rows else "there is no policy"
    remote.show(taken.document("policies"), part)
    taken.tell(remote)


@app.command("show")
@asks
def show_policy(remote: Remote, policy: PolicyArgument) -> None:
    """Show a policy."""
    found = remote.names.policy(policy)
    keep = found.part("keep")
    kept = [f"{name} {count}" for name, count in keep.items() if count and name != "within_s"]
    if keep["within_s"]:
        kept.append(f"all younger than {format_seconds(keep['within_s'])}")
    full = found["full_every"]
    facts = [
        ("policy", str(found["name"])),
        ("id", str(found["id"])),
        ("enabled", yes(bool(found["enabled"]))),
        ("takes", _match_words(remote, found.part("match"))),
        ("to", remote.names.repository_name(found["repository_id"])),
        ("schedule", f"{found['schedule']} ({found['timezone']})"),
        ("window", some(found["window"] or "always")),
        ("not on", ", ".join(found["blackout_dates"]) or "no day is left out"),
        ("spread over", format_seconds(found["jitter_s"]) if found["jitter_s"] else "nothing"),
        ("late after", format_seconds(found["sla_s"]) if found["sla_s"] else "never"),
        ("keeps", ", ".join(kept)),
        ("consistency", str(found["consistency"])),
        ("full", f"every {full} points" if full else "only for a reason"),
        ("bitmaps", "kept" if found["keep_bitmaps"] else "not kept: each backup reads all"),
        ("beside", "CloudStack's own backups, too" if found["beside_cloudstack"] else "none"),
        ("priority", str(found["priority"])),
        ("changed", when(found.moment("updated_at"))),
    ]
    remote.show({"policy": found}, pairs(facts))


@app.command("remove")
@asks
def remove_policy(remote: Remote, policy: PolicyArgument, *, yes: Yes = False) -> None:
    """Remove a policy. Its points stay, and nothing prunes them any more."""
    found = remote.names.policy(policy)
    if not yes:
        confirm(f"Remove the policy {found['name']}?", remote.run)
    remote.client.delete(f"/policies/{found['id']}")
    remote.show({"removed": found["id"]}, f"the policy {found['name']} was removed")


@app.command("enable")
@asks
def enable_policy(remote: Remote, policy: PolicyArgument) -> None:
    """Have a policy act from its next due time on."""
    _set_enabled(remote, policy, enabled=True)


@app.command("disable")
@asks
def disable_policy(remote: Remote, policy: PolicyArgument) -> None:
    """Have a policy act no more, until it is enabled; jobs that it made go on."""
    _set_enabled(remote, policy, enabled=False)


@app.command("preview")
@asks
def preview_policy(remote: Remote, policy: PolicyArgument) -> None:
    """Show which instances a policy takes now, and when it runs next."""
    found = remote.names.policy(policy)
    _show_preview(remote, remote.client.get(f"/policies/{found['id']}/preview"))


def _set_enabled(remote: Remote, policy: str, *, enabled: bool) -> None:
    found = remote.names.policy(policy)
    body = given.editable(found) | {"enabled": enabled}
    after = remote.client.put(f"/policies/{found['id']}", body)
    word = "acts" if enabled else "acts no more"
    remote.show({"policy": after}, f"the policy {after['name']} {word}")


def _show_preview(remote: Remote, preview: Doc) -> None:
    run = preview.part("next_run")
    columns = (
        Column("instance"),
        Column("host", minor=2),
        Column("because", fold=True, minor=1),
        Column("uuid", minor=3),
    )
    instances = preview.parts("instances")
    rows = [
        (
            str(each["cloud_name"] or each["name"]),
            remote.names.host_name(each["host_id"]) or "none",
            str(each["why"]).removeprefix("taken: "),
            str(each["uuid"]),
        )
        for each in instances[:_SHOWN]
    ]
    count = int(preview["count"])
    parts: list[Any] = [f"takes {counted(count, 'instance')}; {run['reason'] or 'never due'}"]
    if run["begins"] != run["due"]:
        parts.append(f"begins {when(run.moment('begins'))}")
    if rows:
        parts.append(Sheet(columns, rows))
    if count > len(rows):
        parts.append(f"and {count - len(rows)} more")
    if left_out := preview.parts("left_out"):
        named = ", ".join(str(each["name"]) for each in left_out[:_NAMED])
        more = f" and {len(left_out) - _NAMED} more" if len(left_out) > _NAMED else ""
        parts.append(f"left out as CloudStack's own: {named}{more}")
    remote.show({"preview": preview}, *parts)


_OF_CLOUDS = ("clouds", "zones", "domains", "accounts", "projects", "tags", "offerings")


def _match_words(remote: Remote, match: Doc) -> str:
    words = []
    of_clouds = [kind for kind in _OF_CLOUDS if match[kind]]
    if match["names"] or match["hosts"] or of_clouds:
        words.append(", ".join(match["names"]) or "every name")
    if match["hosts"]:
        words.append(f"on {', '.join(map(remote.names.host_name, match['hosts']))}")
    words.extend(f"of {kind} {', '.join(match[kind])}" for kind in of_clouds if kind != "tags")
    if match["tags"]:
        words.append(f"with the tag {' or '.join(match['tags'])}")
    if match["instances"]:
        words.append(f"and {counted(len(match['instances']), 'named instance')}")
    if left_out := [*match["except_names"], *match["except_tags"]]:
        words.append(f"but not {', '.join(left_out)}")
    return " ".join(words) or "nothing"
