"""Domains, accounts, users with their keys, and projects."""

from __future__ import annotations

from sendense_lab.simulator import scope, seed
from sendense_lab.simulator import shapes_around as around
from sendense_lab.simulator.call import Call
from sendense_lab.simulator.catalogue import ADMIN, OPERATORS, Body, Steps, Work, command
from sendense_lab.simulator.commands_about import moment
from sendense_lab.simulator.commands_lists import matching
from sendense_lab.simulator.errors import bad, denied
from sendense_lab.simulator.parameters import OWNED, PAGED
from sendense_lab.simulator.records import (
    Account,
    Domain,
    Instance,
    KeyPairOfUser,
    Project,
    Role,
    SecurityGroup,
    User,
)
from sendense_lab.simulator.roles import KINDS
from sendense_lab.simulator.shapes import Fields, set_fields, when
from sendense_lab.simulator.world import World


def _reach(call: Call) -> set[str]:
    """Give the domains that a caller sees."""
    world = call.world
    if call.caller.is_admin:
        return {domain.id for domain in world.all(Domain)}
    own = world.get(Domain, call.caller.account.domain_id)
    return world.domain_tree(own) if call.caller.account.kind == 2 else {own.id}


@command(
    "listDomains", f"id:uuid/domain name level:integer listall:boolean details:list {PAGED}",
    access=OPERATORS,
)  # fmt: skip
def list_domains(call: Call) -> Body:
    """Lists domains and provides detailed information for listed domains"""
    reach, level = _reach(call), call.number("level")
    whole = call.flag("listall") or "id" in call.args
    own = call.caller.account.domain_id
    rows = [
        row for row in matching(call, call.world.all(Domain))
        if row.id in reach and (level is None or row.level == level) and (whole or row.id == own)
    ]  # fmt: skip
    return call.listing("domain", rows, lambda row: around.domain(call.world, row))


@command("createDomain", "name! parentdomainid:uuid/domain networkdomain domainid", access=ADMIN)
def create_domain(call: Call) -> Body:
    """Creates a domain"""
    world = call.world
    parent = call.maybe("parentdomainid", Domain) or world.root
    name = call.text("name")
    if any((one.parent_id, one.name) == (parent.id, name) for one in world.all(Domain)):
        raise bad(f"Domain with name {name} already exists for the parent id={parent.id}")
    return {"domain": around.domain(world, seed.add_domain(world, name, parent))}


@command(
    "deleteDomain", "id:uuid/domain! cleanup:boolean", access=ADMIN, is_async=True,
    java="admin.domain.DeleteDomainCmd",
)  # fmt: skip
def delete_domain(call: Call) -> Work:
    """Deletes a specified domain"""
    world, row = call.world, call.one("id", Domain)

    def steps() -> Steps:
        tree = world.domain_tree(row)
        if tree != {row.id} or any(one.domain_id == row.id for one in world.all(Account)):
            raise bad(f"Can't delete the domain yet because it has accounts or domains: {row.path}")
        world.remove(row)
        yield lambda: None
        return {"success": True}

    return Work(steps(), about=("Domain", row.id), event="DOMAIN.DELETE", words="deleting domain")


@command(
    "listAccounts",
    "id:uuid/account name accounttype:integer state domainid:uuid/domain isrecursive:boolean "
    f"listall:boolean details:list iscleanuprequired:boolean {PAGED}",
)
def list_accounts(call: Call) -> Body:
    """Lists accounts and provides detailed account information for listed accounts"""
    world, caller = call.world, call.caller
    kind, state = call.number("accounttype"), call.text("state")
    places = _account_places(call)
    rows = [
        row for row in matching(call, world.all(Account))
        if row.kind != 5 and row.state != "removed"
        and (row.domain_id in places or row.id == caller.account.id)
        and (caller.account.kind != 0 or row.id == caller.account.id)
        and (kind is None or row.kind == kind) and (not state or row.state == state)
    ]  # fmt: skip
    return call.listing("account", rows, lambda row: around.account(world, row))


def _account_places(call: Call) -> set[str]:
    world = call.world
    domain = call.maybe("domainid", Domain)
    if domain is None:
        whole = call.flag("listall") or "id" in call.args
        return _reach(call) if whole else {call.caller.account.domain_id}
    scope.check_domain(world, call.caller, domain)
    recursive = call.flag("isrecursive")
    return world.domain_tree(domain) if recursive else {domain.id}


@command(
    "createAccount",
    "username! password! email! firstname! lastname! account accounttype:integer roleid:uuid/role "
    "domainid:uuid/domain timezone accountid userid",
    access=OPERATORS,
)
def create_account(call: Call) -> Body:
    """Creates an account"""
    world = call.world
    domain = call.maybe("domainid", Domain) or world.get(Domain, call.caller.account.domain_id)
    scope.check_domain(world, call.caller, domain)
    role = call.maybe("roleid", Role) or _default_role(call)
    name = call.text("account") or call.text("username")
    if world.account_named(name, domain.id):
        raise bad(f"The user {name} already exists in domain {domain.id}")
    account = world.add(
        Account(name=name, domain_id=domain.id, kind=KINDS[role.kind], role_id=role.id)
    )
    world.add(SecurityGroup(name="default", account_id=account.id))
    _add_user(call, account)
    return {"account": around.account(world, account)}


def _default_role(call: Call) -> Role:
    number = call.number("accounttype")
    if number is None:
        raise bad("Neither account type and role ID are not provided")
    return next(
        role for role in call.world.all(Role) if role.is_default and KINDS[role.kind] == number
    )


def _add_user(call: Call, account: Account) -> User:
    return call.world.add(
        User(
            name=call.text("username"),
            account_id=account.id,
            first_name=call.text("firstname"),
            last_name=call.text("lastname"),
            email=call.text("email"),
            password=call.text("password"),
        )
    )


@command(
    "createUser",
    "username! password! email! firstname! lastname! account! domainid:uuid/domain timezone userid",
    access=OPERATORS,
)
def create_user(call: Call) -> Body:
    """Creates a user for an account that already exists"""
    account = scope.new_owner(call)
    if any(one.name == call.text("username") for one in call.world.all(User)):
        raise bad(f"The user {call.text('username')} already exists in domain {account.domain_id}")
    return {"user": around.user(call.world, _add_user(call, account))}


@command("disableAccount", "id:uuid/account lock:boolean! account domainid:uuid/domain",
         access=OPERATORS, is_async=True)  # fmt: skip
def disable_account(call: Call) -> Work:
    """Disables an account"""
    account = call.maybe("id", Account) or scope.new_owner(call)
    scope.check_account(call.world, call.caller, account)

    def steps() -> Steps:
        account.state = "locked" if call.flag("lock") else "disabled"
        yield lambda: None
        return {"account": around.account(call.world, account)}

    return Work(steps(), about=("Account", account.id), event="ACCOUNT.DISABLE", words="account")


@command("enableAccount", "id:uuid/account account domainid:uuid/domain", access=OPERATORS)
def enable_account(call: Call) -> Body:
    """Enables an account"""
    account = call.maybe("id", Account) or scope.new_owner(call)
    account.state = "enabled"
    return {"account": around.account(call.world, account)}


@command("deleteAccount", "id:uuid/account!", access=OPERATORS, is_async=True)
def delete_account(call: Call) -> Work:
    """Deletes a account, and all users associated with this account"""
    world, account = call.world, call.one("id", Account)
    scope.check_account(world, call.caller, account)
    if account.id == call.caller.account.id:
        raise denied("Unable to delete the account that asks for it")

    def steps() -> Steps:
        if any(vm.account_id == account.id for vm in world.all(Instance)):
            raise bad(f"Unable to delete account {account.name}: it has instances")
        for user in world.all(User):
            if user.account_id == account.id:
                for pair in world.keys_of(user):
                    world.remove(pair)
                world.remove(user)
        # The row stays, hidden: events and jobs refer to it.
        account.state = "removed"
        yield lambda: None
        return {"success": True}

    return Work(steps(), about=("Account", account.id), event="ACCOUNT.DELETE", words="account")


@command(
    "listUsers",
    f"id:uuid/user username accounttype:integer state showkeys {OWNED} {PAGED}",
)  # fmt: skip
def list_users(call: Call) -> Body:
    """Lists user accounts"""
    world = call.world
    sees = scope.visible(call)
    name = call.text("username")
    own = call.caller.user.id if not call.flag("listall") and "id" not in call.args else ""
    rows = [
        row for row in matching(call, world.all(User))
        if (sees(row.account_id) if not own or call.caller.account.kind else row.id == own)
        and (not name or row.name == name)
    ]  # fmt: skip
    return call.listing("user", rows, lambda row: _user(world, row, call))


def _user(world: World, row: User, call: Call) -> Fields:
    pairs = world.keys_of(row)
    fields = around.user(world, row)
    if pairs and (call.caller.is_admin or call.caller.user.id == row.id):
        fields["apikey"] = pairs[-1].api_key
    return fields


@command("getUser", "userapikey!", access=ADMIN)
def get_user(call: Call) -> Body:
    """Find user account by API key"""
    pair = call.world.key(call.text("userapikey"))
    if pair is None:
        raise bad("User api key not found")
    return {"user": _user(call.world, call.world.get(User, pair.user_id), call)}


def _user_in_reach(call: Call) -> User:
    user = call.one("id", User)
    account = call.world.get(Account, user.account_id)
    scope.check_account(call.world, call.caller, account)
    return user


@command("registerUserKeys", "id:uuid/user! name@4.23 description@4.23 startdate@4.23 "
         "enddate@4.23 rules:map@4.23")  # fmt: skip
def register_user_keys(call: Call) -> Body:
    """This command allows a user to register for the developer API"""
    user = _user_in_reach(call)
    pair = call.world.add_key(user, call.text("name"))
    pair.starts, pair.ends = moment(call.text("startdate")), moment(call.text("enddate"))
    pair.rules = [
        (row.get("rule", ""), row.get("permission", "").lower() == "allow")
        for row in call.pairs("rules")
    ]
    return {"userkeys": _pair(pair)}


@command("getUserKeys", "id:uuid/user!")
def get_user_keys(call: Call) -> Body:
    """This command allows the user to query the seceret and API keys for the account"""
    pairs = call.world.keys_of(_user_in_reach(call))
    return {"userkeys": _pair(pairs[-1]) if pairs else {}}


def _pair(pair: KeyPairOfUser) -> Fields:
    return set_fields({
        "id": pair.id if pair.name else "",
        "name": pair.name,
        "apikey": pair.api_key,
        "secretkey": pair.secret,
        "startdate": when(pair.starts) if pair.starts else "",
        "enddate": when(pair.ends) if pair.ends else "",
    })  # fmt: skip


@command(
    "listProjects",
    "id:uuid/project name displaytext state account domainid:uuid/domain isrecursive:boolean "
    f"listall:boolean details:list {PAGED}",
)
def list_projects(call: Call) -> Body:
    """Lists projects and provides detailed information for listed projects"""
    world, caller = call.world, call.caller
    domain = call.maybe("domainid", Domain)
    whole = call.flag("listall") or "id" in call.args or domain is not None
    tree = world.domain_tree(domain) if domain else None
    rows = [
        row for row in matching(call, world.all(Project))
        if scope.may_use_project(world, caller, row)
        and (whole or caller.account.id in (row.owner_id, *row.member_ids))
        and (tree is None or row.domain_id in tree)
    ]  # fmt: skip
    return call.listing("project", rows, lambda row: around.project(world, row))


@command(
    "createProject", "name! displaytext account domainid:uuid/domain accountid userid",
    is_async=True, java="user.project.CreateProjectCmd",
)  # fmt: skip
def create_project(call: Call) -> Work:
    """Creates a project"""
    owner = scope.new_owner(call)
    project = seed.add_project(call.world, call.text("name"), owner, call.text("displaytext"))

    def steps() -> Steps:
        yield lambda: None
        return {"project": around.project(call.world, project)}

    return Work(
        steps(), object_id=project.id, about=("Project", project.id), event="PROJECT.CREATE",
        words=f"creating project: {project.name}",
    )  # fmt: skip


@command("addAccountToProject", "projectid:uuid/project! account email", is_async=True)
def add_account_to_project(call: Call) -> Work:
    """Adds account to a project"""
    world, project = call.world, call.one("projectid", Project)
    scope.check_project(world, call.caller, project)
    account = world.account_named(call.text("account"), project.domain_id)
    if account is None:
        raise bad(f"Unable to find account name={call.text('account')} in domain")

    def steps() -> Steps:
        project.member_ids.append(account.id)
        yield lambda: None
        return {"success": True}

    return Work(steps(), about=("Project", project.id), event="PROJECT.ACCOUNT.ADD", words="member")


@command("deleteProject", "id:uuid/project! cleanup:boolean", is_async=True)
def delete_project(call: Call) -> Work:
    """Deletes a project"""
    world, project = call.world, call.one("id", Project)
    scope.check_project(world, call.caller, project)

    def steps() -> Steps:
        if any(vm.account_id == project.account_id for vm in world.all(Instance)):
            raise bad(f"Can't delete project {project.name}: it has instances")
        world.remove(project)
        yield lambda: None
        return {"success": True}

    return Work(steps(), about=("Project", project.id), event="PROJECT.DELETE", words="project")
