"""How clouds and what is in them look to people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sendense.cli.output import Column, Sheet, pairs
from sendense.cli.remote.answers import Doc
from sendense.cli.remote.words import ago, some, when
from sendense.cli.text import yes

_SAME_S = 2.0
"""Clocks are compared by whole seconds."""


def state_words(cloud: Doc) -> str:
    """Say in a word how a cloud is."""
    state = cloud.part("state")
    if not cloud["enabled"]:
        return "disabled"
    if state["failed_at"]:
        return "failing"
    if not state["looked_at"]:
        return "not read yet"
    return "warning" if state["warnings"] else "ok"


def clouds_sheet(clouds: Sequence[Doc]) -> Sheet:
    """Lay out clouds."""
    columns = (
        Column("cloud"),
        Column("state"),
        Column("read"),
        Column("version", minor=2),
        Column("instances", right=True, minor=1),
        Column("hosts", right=True, minor=1),
        Column("endpoint", minor=3),
        Column("id", minor=4),
    )
    rows = [
        (
            str(each["name"]),
            state_words(each),
            ago(each.part("state").moment("looked_at")),
            some(each.part("state")["version"]),
            str(each.part("state")["instances"]),
            str(each.part("state")["hosts"]),
            str(each["endpoint"]),
            str(each["id"]),
        )
        for each in clouds
    ]
    return Sheet(columns, rows)


def cloud_facts(cloud: Doc) -> Any:  # noqa: ANN401 - a table of rich
    """Lay out one cloud."""
    state = cloud.part("state")
    facts = [
        ("cloud", str(cloud["name"])),
        ("id", str(cloud["id"])),
        ("endpoint", str(cloud["endpoint"])),
        ("state", state_words(cloud)),
        ("version", some(state["version"])),
        ("read", ago(state.moment("looked_at"))),
        ("has", f"{state['instances']} instances, {state['hosts']} hosts"),
        ("key for restores", "its own" if cloud["has_restore_key"] else "the one that reads"),
        ("webhook", "set" if cloud["has_webhook"] else "none"),
        ("certificates", "its own" if cloud["has_ca"] else "the system's"),
        ("added", when(cloud.moment("created_at"))),
    ]
    if state["failed_at"]:
        facts.append(("failing since", when(state.moment("failed_at"))))
        facts.append(("because", str(state["failure"])))
    facts += [("warning", str(each)) for each in state["warnings"]]
    return pairs(facts)


def check_parts(cloud: Doc, check: Doc) -> list[Any]:
    """Lay out how a cloud answers."""
    if check["failure"]:
        lines = [f"{cloud['name']}: {check['failure']}"]
        return [*lines, *([f"hint: {check['hint']}"] if check["hint"] else []), *_warnings(check)]
    features = check.part("features")
    facts = [
        ("cloud", str(cloud["name"])),
        ("version", some(check["version"])),
        ("clock", _clock(float(check["skew_s"]))),
        ("account", "of type Admin" if check["admin"] else "not of type Admin"),
        ("can", ", ".join(name for name, has in features.items() if has) or "none of the extras"),
        ("cannot", ", ".join(name for name, has in features.items() if not has) or "-"),
    ]
    for each in check.parts("purposes"):
        facts.append((f"key to {_WORDS.get(each['purpose'], each['purpose'])}", _fit(each)))
    missing = [
        (str(part["purpose"]), str(each["api"]), str(each["why"]),
         "no" if each["optional"] else "yes", some(each["since"]))
        for part in check.parts("purposes") if _wanted(part)
        for each in part.parts("missing")
    ]  # fmt: skip
    columns = (
        Column("for"), Column("missing"), Column("why", fold=True), Column("needed"),
        Column("since", minor=1),
    )  # fmt: skip
    parts: list[Any] = [pairs(facts)]
    if missing:
        parts.append(Sheet(columns, missing))
    parts += [_only_for(part) for part in check.parts("purposes") if not _wanted(part)]
    if check["beyond"]:
        parts.append(
            f"the keys may use {len(check['beyond'])} commands that they need not: a role of its "
            "own is safer, see 'sendense cloud role'"
        )
    return [*parts, *_warnings(check)]


def healthy(check: Doc) -> bool:
    """Tell whether backups can be made with what a cloud lets us; webhooks and extras aside."""
    fit = {each["purpose"]: each["good"] for each in check.parts("purposes")}
    return bool(not check["failure"] and check["admin"] and fit.get("read") and fit.get("restore"))


_WORDS = {"read": "read", "restore": "restore", "webhooks": "set webhooks"}


def _wanted(part: Doc) -> bool:
    """Tell whether anybody asked for it; an older server does not say, and takes all for wanted."""
    return bool(part.get("wanted", True))


def _only_for(part: Doc) -> str:
    """Say what a purpose would need that nobody asked for."""
    named = ", ".join(
        f"{each['api']} (from {each['since']} on)" if each["since"] else str(each["api"])
        for each in part.parts("missing")
    )
    if not named:
        return f"{part['purpose']} are possible, and none is set"
    return f"only for {part['purpose']}, of which none is set, it lacks {named}"


def _fit(part: Doc) -> str:
    own = "a key of its own" if part["own_key"] and part["purpose"] == "restore" else ""
    if part["failure"]:
        return f"does not work: {part['failure']}"
    if not _wanted(part):
        return "not asked for"
    said = "has all it needs" if part["good"] else "lacks permissions"
    return f"{said}; {own}" if own else said


def _warnings(check: Doc) -> list[str]:
    return [f"warning: {each}" for each in check["warnings"]]


def hosts_sheet(hosts: Sequence[Doc]) -> Sheet:
    """Lay out the hosts of a cloud."""
    columns = (
        Column("host"),
        Column("address", minor=2),
        Column("usable"),
        Column("agent"),
        Column("version", minor=3),
        Column("pools", fold=True, minor=1),
        Column("because", fold=True),
    )
    rows = [
        (
            str(each["name"]),
            str(each["address"]),
            yes(bool(each["usable"])),
            str(each["health"] or "not registered"),
            some(each["agent_version"]),
            ", ".join(each["pools"]) or "none of files",
            str(each["why_not"]),
        )
        for each in hosts
    ]
    return Sheet(columns, rows)


def changes_sheet(changes: Sequence[Doc]) -> Sheet:
    """Lay out what changed in a cloud."""
    columns = (
        Column("when"),
        Column("kind", minor=1),
        Column("name"),
        Column("what"),
        Column("fields", fold=True),
        Column("id", minor=2),
    )
    rows = [
        (
            when(each.moment("at")),
            str(each["kind"]),
            str(each["name"]),
            str(each["what"]),
            "; ".join(
                f"{name}: {before or '-'} -> {after or '-'}"
                for name, (before, after) in each["fields"].items()
            ),
            str(each["object_id"]),
        )
        for each in changes
    ]
    return Sheet(columns, rows)


def _clock(skew_s: float) -> str:
    if abs(skew_s) < _SAME_S:
        return "the same as ours"
    return f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} ours"
