"""Who may call what: rules of roles in order, and what stands behind them.

The first rule that matches decides. Where none does, a command is still allowed to the types of
role that its code names: a role without a closing `deny *` is wider than its rules. Only the first
role of all, the built-in root administrator, is bound by no rule.
"""

from __future__ import annotations

import re

from sendense_lab.simulator.catalogue import Command
from sendense_lab.simulator.records import Account, Role, RoleRule
from sendense_lab.simulator.world import World

ROOT_ADMIN = "Root Admin"
KINDS = {"User": 0, "Admin": 1, "DomainAdmin": 2, "ResourceAdmin": 3}
"""Types of role, and the type of the accounts that have one."""

BUILT_IN = (
    (ROOT_ADMIN, "Admin"),
    ("Resource Admin", "ResourceAdmin"),
    ("Domain Admin", "DomainAdmin"),
    ("User", "User"),
)


def add_built_in(world: World) -> None:
    """Make the roles that every CloudStack has."""
    for name, kind in BUILT_IN:
        world.add(Role(name=name, kind=kind, is_default=True, description=f"Default {name} role"))


def rules_of(world: World, role: Role) -> list[RoleRule]:
    """Give the rules of a role in their order."""
    return [rule for rule in world.all(RoleRule) if rule.role_id == role.id]


def matches(rule: str, command: str) -> bool:
    """Tell whether a rule is about a command: any case, `*` for any letters."""
    pattern = re.escape(rule.lower()).replace(r"\*", r"\w*")
    return re.fullmatch(pattern, command.lower()) is not None


def allowed(world: World, account: Account, command: Command) -> bool:
    """Tell whether an account's role lets it call a command."""
    role = world.find(Role, account.role_id)
    if role is None or role.state != "enabled":
        return False
    if role.is_default and role.name == ROOT_ADMIN:
        return True
    for rule in rules_of(world, role):
        if matches(rule.rule, command.name):
            return rule.allow
    return role.kind in command.access


def allowed_by_key(rules: list[tuple[str, bool]], command: Command) -> bool:
    """Tell whether the rules of a key pair let a command through (4.23); none: all."""
    for rule, allow in rules:
        if matches(rule, command.name):
            return allow
    return True
