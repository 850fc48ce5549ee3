"""The options of ``sendense policy add`` and ``edit``, and what they make of a policy.

Each option is one field of what the server takes.  One that is left out leaves its field alone, so
that ``edit`` sends back what was there, but for what was named.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any

import typer

from sendense.cli.dates import span
from sendense.cli.remote.answers import Doc
from sendense.cli.remote.names import Names
from sendense.errors import Rejected
from sendense.model.point import Consistency

_PERIOD_HELP = "Keep the newest point of each of the newest N {} that have one."
_MATCH, _KEEP, _WHEN = "Which instances", "What is kept", "When"

To = Annotated[str | None, typer.Option("--to", metavar="REPOSITORY", help="Where its points go.")]
Match = Annotated[
    list[str] | None,
    typer.Option(
        "--match", metavar="PATTERN", rich_help_panel=_MATCH,
        help="Instances whose name fits, for example web-*; may be given several times.",
    ),
]  # fmt: skip
Except = Annotated[
    list[str] | None,
    typer.Option(
        "--except", metavar="PATTERN", rich_help_panel=_MATCH,
        help="None whose name fits; may be given several times.",
    ),
]  # fmt: skip
On = Annotated[
    list[str] | None,
    typer.Option(
        "--on", metavar="HOST", rich_help_panel=_MATCH,
        help="Of those with a fitting name only the ones on this host; several times.",
    ),
]  # fmt: skip
InstanceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--instance", metavar="INSTANCE", rich_help_panel=_MATCH,
        help="This one too, by name or UUID; may be given several times.",
    ),
]  # fmt: skip
CloudRule = Annotated[
    list[str] | None,
    typer.Option(
        "--cloud", metavar="PATTERN", rich_help_panel=_MATCH,
        help="Of this cloud, by name; several times.",
    ),
]  # fmt: skip
ZoneRule = Annotated[
    list[str] | None,
    typer.Option(
        "--zone", metavar="PATTERN", rich_help_panel=_MATCH,
        help="In this zone, by name; several times.",
    ),
]  # fmt: skip
DomainRule = Annotated[
    list[str] | None,
    typer.Option(
        "--domain", metavar="PATTERN", rich_help_panel=_MATCH,
        help="Of owners in this domain, by path: ROOT/acme, ROOT/acme/*; several times.",
    ),
]  # fmt: skip
AccountRule = Annotated[
    list[str] | None,
    typer.Option(
        "--account", metavar="PATTERN", rich_help_panel=_MATCH,
        help="Of this account; several times.",
    ),
]  # fmt: skip
ProjectRule = Annotated[
    list[str] | None,
    typer.Option(
        "--project", metavar="PATTERN", rich_help_panel=_MATCH,
        help="Of this project; several times.",
    ),
]  # fmt: skip
TagRule = Annotated[
    list[str] | None,
    typer.Option(
        "--tag", metavar="TAG", rich_help_panel=_MATCH,
        help="With this tag, key or key=value; several times.",
    ),
]  # fmt: skip
OfferingRule = Annotated[
    list[str] | None,
    typer.Option(
        "--offering", metavar="PATTERN", rich_help_panel=_MATCH,
        help="Of this offering; several times.",
    ),
]  # fmt: skip
ExceptTag = Annotated[
    list[str] | None,
    typer.Option(
        "--except-tag", metavar="TAG", rich_help_panel=_MATCH,
        help="None with this tag, key or key=value; may be given several times.",
    ),
]  # fmt: skip
ScheduleOption = Annotated[
    str | None,
    typer.Option(
        "--schedule", metavar="CRON", rich_help_panel=_WHEN,
        help="Minute, hour, day, month and weekday, as of cron: '30 1 * * *'.",
    ),
]  # fmt: skip
Timezone = Annotated[
    str | None,
    typer.Option(
        metavar="ZONE", help="Of its times, for example Europe/Berlin.", rich_help_panel=_WHEN
    ),
]
Window = Annotated[
    str | None,
    typer.Option(
        metavar="FROM-TO", rich_help_panel=_WHEN,
        help="Jobs begin only in it, for example 22:00-06:00; '': at any time.",
    ),
]  # fmt: skip
Blackout = Annotated[
    list[str] | None,
    typer.Option(
        "--blackout", metavar="DATE", rich_help_panel=_WHEN,
        help="No job begins on this day, 2026-12-24; may be given several times.",
    ),
]  # fmt: skip
Jitter = Annotated[
    int | None,
    typer.Option(
        metavar="MINUTES", min=0, rich_help_panel=_WHEN,
        help="Starts are spread over so many minutes.",
    ),
]  # fmt: skip
Sla = Annotated[
    timedelta | None,
    typer.Option(
        metavar="SPAN", parser=span, rich_help_panel=_WHEN,
        help="An instance is late when its newest good point is older: 26h, 2d; 0h: never.",
    ),
]  # fmt: skip
KeepLast = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, rich_help_panel=_KEEP, help="Keep the newest N good points."),
]
KeepHourly = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, rich_help_panel=_KEEP, help=_PERIOD_HELP.format("hours")),
]
KeepDaily = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, rich_help_panel=_KEEP, help=_PERIOD_HELP.format("days")),
]
KeepWeekly = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, rich_help_panel=_KEEP, help=_PERIOD_HELP.format("ISO weeks")),
]
KeepMonthly = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, rich_help_panel=_KEEP, help=_PERIOD_HELP.format("months")),
]
KeepYearly = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, rich_help_panel=_KEEP, help=_PERIOD_HELP.format("years")),
]
KeepWithin = Annotated[
    timedelta | None,
    typer.Option(
        metavar="SPAN", parser=span, rich_help_panel=_KEEP,
        help="Keep points younger than 36h, 14d, 8w.",
    ),
]  # fmt: skip
ConsistencyOption = Annotated[
    Consistency | None, typer.Option("--consistency", help="How consistent its points are.")
]
FullEvery = Annotated[
    int | None,
    typer.Option(metavar="N", min=0, help="Read every N-th in full; 0: only for a reason."),
]
KeepBitmaps = Annotated[
    bool | None,
    typer.Option(
        "--bitmaps/--no-bitmaps",
        help="Keep dirty bitmaps in the disks; without them each backup reads all.",
    ),
]
Beside = Annotated[
    bool | None,
    typer.Option(
        "--beside-cloudstack/--not-beside-cloudstack",
        help="Also instances that a backup offering of CloudStack's own backs up.",
    ),
]
Priority = Annotated[
    int | None, typer.Option(metavar="N", help="Jobs with a higher one begin first.")
]


def typed(
    *,
    to: To = None,
    schedule: ScheduleOption = None,
    timezone: Timezone = None,
    match: Match = None,
    except_: Except = None,
    on: On = None,
    instance: InstanceOption = None,
    cloud: CloudRule = None,
    zone: ZoneRule = None,
    domain: DomainRule = None,
    account: AccountRule = None,
    project: ProjectRule = None,
    tag: TagRule = None,
    offering: OfferingRule = None,
    except_tag: ExceptTag = None,
    keep_last: KeepLast = None,
    keep_hourly: KeepHourly = None,
    keep_daily: KeepDaily = None,
    keep_weekly: KeepWeekly = None,
    keep_monthly: KeepMonthly = None,
    keep_yearly: KeepYearly = None,
    keep_within: KeepWithin = None,
    window: Window = None,
    blackout: Blackout = None,
    jitter: Jitter = None,
    sla: Sla = None,
    consistency: ConsistencyOption = None,
    full_every: FullEvery = None,
    keep_bitmaps: KeepBitmaps = None,
    beside_cloudstack: Beside = None,
    priority: Priority = None,
) -> dict[str, Any]:
    """Give what was typed of them."""
    return dict(locals())


_OF_CLOUDS = ("cloud", "zone", "domain", "account", "project", "tag", "offering")
"""Options that a rule of the same name, as a plural, is made of."""
TAKING = ("match", "on", "instance", *_OF_CLOUDS)
"""Options that say which instances a policy takes."""
_KEEPS = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


def keep_rules(**given: Any) -> dict[str, Any]:
    """Give the rules of retention that were typed, as ``keep_last`` and so on."""
    rules = {
        name: given[f"keep_{name}"] for name in _KEEPS if given.get(f"keep_{name}") is not None
    }
    within = given.get("keep_within")
    if within is not None:
        rules["within_s"] = within.total_seconds() or None
    return rules


def require_kept(rules: dict[str, Any]) -> None:
    """Refuse rules of retention that keep nothing."""
    if not any(rules.get(name) for name in (*_KEEPS, "within_s")):
        raise Rejected("no rule says what is kept", hint="give --keep-last, --keep-daily, ...")


def changed(policy: dict[str, Any], names: Names, given: dict[str, Any]) -> dict[str, Any]:
    """Give a policy with what was typed over what it was."""
    plain = {
        "schedule": given["schedule"],
        "timezone": given["timezone"],
        "blackout_dates": given["blackout"],
        "consistency": given["consistency"] and given["consistency"].value,
        "full_every": given["full_every"],
        "keep_bitmaps": given["keep_bitmaps"],
        "beside_cloudstack": given["beside_cloudstack"],
        "priority": given["priority"],
        "repository_id": names.repository_id(given["to"]),
        "jitter_s": None if given["jitter"] is None else given["jitter"] * 60,
    }
    body = policy | {name: value for name, value in plain.items() if value is not None}
    if given["window"] is not None:
        body["window"] = given["window"] or None
    if given["sla"] is not None:
        body["sla_s"] = given["sla"].total_seconds() or None
    match = {
        "names": given["match"],
        "except_names": given["except_"],
        "hosts": _ids(given["on"], names.host_id),
        "instances": _ids(given["instance"], names.instance_uuid),
        "except_tags": given["except_tag"],
        **{f"{kind}s": given[kind] for kind in _OF_CLOUDS},
    }
    body["match"] = body["match"] | {
        name: list(value) for name, value in match.items() if value is not None
    }
    body["keep"] = body["keep"] | keep_rules(**given)
    require_kept(body["keep"])
    return body


def _ids(typed: Sequence[str] | None, find: Any) -> list[str] | None:  # noqa: ANN401
    return None if typed is None else [find(each) for each in typed]


def editable(policy: Doc) -> dict[str, Any]:
    """Give what the server takes back of a policy that it gave."""
    return {
        key: value for key, value in policy.items() if key not in {"id", "created_at", "updated_at"}
    }
