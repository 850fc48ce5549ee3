"""Roles and their rules."""

from __future__ import annotations

from sendense_lab.simulator import roles
from sendense_lab.simulator import shapes_around as around
from sendense_lab.simulator.call import Call
from sendense_lab.simulator.catalogue import ADMIN, Body, command
from sendense_lab.simulator.commands_lists import matching
from sendense_lab.simulator.errors import bad
from sendense_lab.simulator.parameters import PAGED
from sendense_lab.simulator.records import Account, Role, RoleRule


@command("listRoles", f"id:uuid/role name type state@4.20 {PAGED}", access=ADMIN)
def list_roles(call: Call) -> Body:
    """Lists dynamic roles in CloudStack"""
    kind = call.text("type")
    rows = [
        row for row in matching(call, call.world.all(Role))
        if not kind or row.kind.lower() == kind.lower()
    ]  # fmt: skip
    return call.listing("role", rows, lambda row: around.role(row, world=call.world))


@command(
    "createRole", "name! type roleid:uuid/role description ispublic:boolean@4.19", access=ADMIN
)
def create_role(call: Call) -> Body:
    """Creates a role"""
    world, model = call.world, call.maybe("roleid", Role)
    kind = model.kind if model else call.text("type")
    if kind not in roles.KINDS:
        raise bad("Role type is not valid; give one of type and roleid")
    if any(row.name == call.text("name") for row in world.all(Role)):
        raise bad(f"Role {call.text('name')} exists already")
    role = world.add(
        Role(
            name=call.text("name"), kind=kind, description=call.text("description"),
            is_public=call.flag("ispublic", default=True),
        )
    )  # fmt: skip
    for rule in roles.rules_of(world, model) if model else ():
        world.add(RoleRule(role_id=role.id, rule=rule.rule, allow=rule.allow))
    return {"role": around.role(role, world=world)}


def _changeable(call: Call, role: Role) -> Role:
    if role.is_default:
        raise bad(f"Default roles cannot be changed: {role.name}")
    return role


@command("updateRole", "id:uuid/role! name description", access=ADMIN)
def update_role(call: Call) -> Body:
    """Updates a role"""
    role = _changeable(call, call.one("id", Role))
    role.name = call.text("name", role.name)
    role.description = call.text("description", role.description)
    return {"role": around.role(role, world=call.world)}


@command("deleteRole", "id:uuid/role!", access=ADMIN)
def delete_role(call: Call) -> Body:
    """Deletes a role"""
    role = _changeable(call, call.one("id", Role))
    if any(account.role_id == role.id for account in call.world.all(Account)):
        raise bad("Found accounts that have the role: cannot delete it")
    call.world.remove(role)
    return success(call)


@command("enableRole", "id:uuid/role!", access=ADMIN, since="4.20")
def enable_role(call: Call) -> Body:
    """Enables a role"""
    call.one("id", Role).state = "enabled"
    return success(call)


@command("disableRole", "id:uuid/role!", access=ADMIN, since="4.20")
def disable_role(call: Call) -> Body:
    """Disables a role"""
    _changeable(call, call.one("id", Role)).state = "disabled"
    return success(call)


def success(call: Call) -> Body:
    """Answer that something is done: older versions write it as a word."""
    return {"success": True if call.world.since("4.20") else "true"}


@command("listRolePermissions", "roleid:uuid/role", access=ADMIN)
def list_role_permissions(call: Call) -> Body:
    """Lists role permissions"""
    role = call.maybe("roleid", Role)
    rows = [row for row in call.world.all(RoleRule) if role is None or row.role_id == role.id]
    if not rows:
        return {}
    shown = [around.rule(row, world=call.world) for row in rows]
    return {"count": len(rows), "rolepermission": shown}


@command(
    "createRolePermission", "roleid:uuid/role! rule! permission! description", access=ADMIN
)  # fmt: skip
def create_role_permission(call: Call) -> Body:
    """Adds an API permission to a role"""
    world = call.world
    role = _changeable(call, call.one("roleid", Role))
    permission = call.text("permission").lower()
    if permission not in {"allow", "deny"}:
        raise bad("Invalid permission provided, values can be either ALLOW or DENY only")
    if any(row.rule == call.text("rule") for row in roles.rules_of(world, role)):
        raise bad(f"Rule {call.text('rule')} exists already for role {role.name}")
    rule = world.add(
        RoleRule(
            role_id=role.id, rule=call.text("rule"), allow=permission == "allow",
            description=call.text("description"),
        )
    )  # fmt: skip
    return {"rolepermission": around.rule(rule, world=world)}


@command("updateRolePermission",
         "roleid:uuid/role! ruleorder:uuids/rule ruleid:uuid/rule permission",
         access=ADMIN)  # fmt: skip
def update_role_permission(call: Call) -> Body:
    """Updates a role permission order"""
    world = call.world
    role = _changeable(call, call.one("roleid", Role))
    order = call.many("ruleorder", RoleRule)
    rule = call.maybe("ruleid", RoleRule)
    if rule:
        rule.allow = call.text("permission").lower() == "allow"
    if order:
        if {row.id for row in order} != {row.id for row in roles.rules_of(world, role)}:
            raise bad("The order has to name every rule of the role")
        for row in order:
            world.remove(row)
            world.add(row)
    return success(call)


@command("deleteRolePermission", "id:uuid/rule!", access=ADMIN)
def delete_role_permission(call: Call) -> Body:
    """Deletes a role permission"""
    call.world.remove(call.one("id", RoleRule))
    return success(call)
