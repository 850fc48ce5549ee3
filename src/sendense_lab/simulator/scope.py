"""Which rows a caller sees: its own, those of a domain, of an account, of projects.

A root administrator sees its own too as long as it does not ask for `listall`. What projects own is
in no list that does not ask for projects: `projectid=-1` asks for all of them.
"""

from __future__ import annotations

from collections.abc import Callable

from sendense_lab.simulator.call import Call, Caller
from sendense_lab.simulator.errors import bad, denied
from sendense_lab.simulator.records import Account, Domain, Project, Record
from sendense_lab.simulator.world import World


def visible(call: Call) -> Callable[[str], bool]:
    """Give the test of an owner (the id of an account) for a list command."""
    ids = _accounts(call)
    return ids.__contains__


def _accounts(call: Call) -> set[str]:
    world, caller = call.world, call.caller
    project, name = call.args.get("projectid"), call.text("account")
    if name and project is not None:
        raise bad("Account and projectId can't be specified together")
    domain = call.maybe("domainid", Domain)
    if domain is not None:
        check_domain(world, caller, domain)
    if name:
        return {_named_account(call, name, domain).id}
    if isinstance(project, Project):
        check_project(world, caller, project)
        return {project.account_id}
    if project == -1:
        return _all_projects(call, domain)
    return _people(call, domain)


def _all_projects(call: Call, domain: Domain | None) -> set[str]:
    """Give the owners behind `projectid=-1`: what everybody owns is in it for root administrators.

    All others see the projects that they are in, and with `listall` their own account's: a domain
    administrator that asks for all projects is not shown its tenants.
    """
    world, caller = call.world, call.caller
    if caller.is_admin:
        owners = {one.account_id for one in world.all(Project)}
        within = _domains(call, domain) if domain else world.domain_tree(world.root)
        owners = {key for key in owners if world.get(Account, key).domain_id in within}
        return owners | _in_domains(world, within) if call.flag("listall") else owners
    owners = {
        one.account_id
        for one in world.all(Project)
        if caller.account.id in (one.owner_id, *one.member_ids)
    }
    return owners if owners and not call.flag("listall") else owners | {caller.account.id}


def _people(call: Call, domain: Domain | None) -> set[str]:
    world, caller = call.world, call.caller
    if caller.account.kind == 0:
        return {caller.account.id}
    if domain is not None:
        return _in_domains(world, _domains(call, domain))
    if isinstance(call.args.get("id"), Record):
        # Administrators find what they name, whoever in their reach owns it.
        return _reach(call)
    if not call.flag("listall"):
        return {caller.account.id}
    return _in_domains(world, world.domain_tree(_top(call)))


def _reach(call: Call) -> set[str]:
    world = call.world
    tree = world.domain_tree(_top(call))
    return {account.id for account in world.all(Account) if account.domain_id in tree}


def _top(call: Call) -> Domain:
    world, caller = call.world, call.caller
    return world.root if caller.is_admin else world.get(Domain, caller.account.domain_id)


def _domains(call: Call, domain: Domain) -> set[str]:
    return call.world.domain_tree(domain) if call.flag("isrecursive") else {domain.id}


def _named_account(call: Call, name: str, domain: Domain | None) -> Account:
    if domain is None:
        domain = call.world.get(Domain, call.caller.account.domain_id)
    account = call.world.account_named(name, domain.id)
    if account is None:
        raise bad(f"Unable to find account by name {name} in domain with specified id")
    check_account(call.world, call.caller, account)
    return account


def _in_domains(world: World, domains: set[str]) -> set[str]:
    return {
        account.id
        for account in world.all(Account)
        if account.domain_id in domains and account.kind != 5
    }


def may_use_project(world: World, caller: Caller, project: Project) -> bool:
    """Tell whether a project is the caller's to look into."""
    if caller.is_admin or caller.account.id in (project.owner_id, *project.member_ids):
        return True
    return caller.account.kind == 2 and project.domain_id in _own_tree(world, caller)


def check_project(world: World, caller: Caller, project: Project) -> None:
    """Refuse a project of others."""
    if not may_use_project(world, caller, project):
        raise denied(f"Account {caller.account.name} can't access project id={project.id}")


def check_domain(world: World, caller: Caller, domain: Domain) -> None:
    """Refuse a domain outside of the caller's reach."""
    if caller.is_admin or domain.id == caller.account.domain_id:
        return
    if caller.account.kind == 2 and domain.id in _own_tree(world, caller):
        return
    raise denied(f"Caller does not have permission to operate with provided domain: {domain.id}")


def check_account(world: World, caller: Caller, account: Account) -> None:
    """Refuse what belongs to an account that is not the caller's to act for."""
    if not can_act_for(world, caller, account):
        raise denied(f"{caller.account.name} does not have permission to operate with resource")


def can_act_for(world: World, caller: Caller, account: Account) -> bool:
    """Tell whether a caller may see and change what an account owns."""
    if caller.is_admin or account.id == caller.account.id:
        return True
    if account.kind == 5:
        project = world.find(Project, account.project_id)
        return project is not None and may_use_project(world, caller, project)
    return caller.account.kind == 2 and account.domain_id in _own_tree(world, caller)


def _own_tree(world: World, caller: Caller) -> set[str]:
    return world.domain_tree(world.get(Domain, caller.account.domain_id))


def new_owner(call: Call) -> Account:
    """Give whom something is made for: a project, an account of a domain, or the caller."""
    project = call.args.get("projectid")
    if isinstance(project, Project):
        check_project(call.world, call.caller, project)
        return call.world.owner_of(project)
    name = call.text("account")
    domain = call.maybe("domainid", Domain)
    if name and domain is None:
        raise bad("Account and domainId must be specified together")
    if not name:
        return call.caller.account
    return _named_account(call, name, domain)
