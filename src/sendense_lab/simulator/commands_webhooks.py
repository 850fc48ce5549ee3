"""Webhooks (4.20+), and the last of what they delivered."""

from __future__ import annotations

from sendense_lab.simulator import scope
from sendense_lab.simulator.call import Call
from sendense_lab.simulator.catalogue import Body, command
from sendense_lab.simulator.commands_lists import matching
from sendense_lab.simulator.commands_roles import success
from sendense_lab.simulator.errors import bad, denied
from sendense_lab.simulator.parameters import FOR_OWNER, OWNED, PAGED
from sendense_lab.simulator.records import Account, Webhook
from sendense_lab.simulator.shapes import Fields, owner, set_fields, when
from sendense_lab.simulator.world import World

SCOPES = {"local": "Local", "domain": "Domain", "global": "Global"}
STATES = {"enabled": "Enabled", "disabled": "Disabled"}


def shape(world: World, hook: Webhook) -> Fields:
    """Show a webhook, with its secret: its owner set it."""
    return set_fields({
        "id": hook.id,
        "name": hook.name,
        "description": hook.description,
        "state": hook.state,
        "payloadurl": hook.url,
        "scope": hook.scope,
        "secretkey": hook.secret,
        "sslverification": hook.verify,
        "created": when(hook.created),
        **owner(world, hook.account_id),
    })  # fmt: skip


@command(
    "createWebhook",
    f"name! payloadurl! description scope secretkey sslverification:boolean state {FOR_OWNER}",
    since="4.20",
)
def create_webhook(call: Call) -> Body:
    """Creates a Webhook"""
    url = call.text("payloadurl")
    if not url.lower().startswith(("http://", "https://")):
        raise bad(f"Invalid payload URL specified: {url}")
    kind = SCOPES.get(call.text("scope", "Local").lower())
    state = STATES.get(call.text("state", "Enabled").lower())
    if kind is None or state is None:
        raise bad("Invalid scope or state specified")
    _check_scope(call, kind)
    if url.lower().startswith("http://") and call.flag("sslverification"):
        raise bad(f"SSL verification can not be enabled for {url}")
    hook = call.world.add(
        Webhook(
            name=call.text("name"),
            description=call.text("description"),
            url=url,
            scope=kind,
            state=state,
            secret=call.text("secretkey"),
            verify=call.flag("sslverification", default=url.lower().startswith("https://")),
            account_id=scope.new_owner(call).id,
        )
    )
    return {"webhook": shape(call.world, hook)}


def _check_scope(call: Call, kind: str) -> None:
    if kind == "Global" and not call.caller.is_admin:
        raise denied("Scope Global can not be specified by this account")
    if kind == "Domain" and call.caller.account.kind == 0:
        raise denied("Scope Domain can not be specified by this account")


@command(
    "listWebhooks", f"id:uuid/webhook name state scope {OWNED} {PAGED}", since="4.20"
)  # fmt: skip
def list_webhooks(call: Call) -> Body:
    """Lists Webhooks"""
    sees = scope.visible(call)
    kind, state = call.text("scope").lower(), call.text("state").lower()
    rows = [
        row for row in matching(call, call.world.all(Webhook))
        if sees(row.account_id) and (not kind or row.scope.lower() == kind)
        and (not state or row.state.lower() == state)
    ]  # fmt: skip
    return call.listing("webhook", rows, lambda row: shape(call.world, row))


def _my_hook(call: Call, name: str = "id") -> Webhook:
    hook = call.one(name, Webhook)
    scope.check_account(call.world, call.caller, call.world.get(Account, hook.account_id))
    return hook


@command(
    "updateWebhook",
    "id:uuid/webhook! name description payloadurl scope secretkey sslverification:boolean state",
    since="4.20",
)
def update_webhook(call: Call) -> Body:
    """Updates a Webhook"""
    hook = _my_hook(call)
    kind = SCOPES.get(call.text("scope", hook.scope).lower())
    state = STATES.get(call.text("state", hook.state).lower())
    if kind is None or state is None:
        raise bad("Invalid scope or state specified")
    _check_scope(call, kind)
    hook.scope, hook.state = kind, state
    hook.name = call.text("name", hook.name)
    hook.description = call.text("description", hook.description)
    hook.url = call.text("payloadurl", hook.url)
    hook.secret = call.text("secretkey", hook.secret)
    hook.verify = call.flag("sslverification", default=hook.verify)
    return {"webhook": shape(call.world, hook)}


@command("deleteWebhook", "id:uuid/webhook!", since="4.20")
def delete_webhook(call: Call) -> Body:
    """Deletes a Webhook"""
    call.world.remove(_my_hook(call))
    return success(call)
