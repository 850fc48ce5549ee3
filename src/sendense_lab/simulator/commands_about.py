"""What a server tells of itself and of its jobs: capabilities, APIs, jobs, events."""

from __future__ import annotations

from datetime import UTC, datetime

from sendense_lab.simulator import events, jobs, roles, scope
from sendense_lab.simulator.call import Call
from sendense_lab.simulator.catalogue import ADMIN, COMMANDS, Body, Command, command
from sendense_lab.simulator.errors import bad
from sendense_lab.simulator.parameters import OWNED, PAGED
from sendense_lab.simulator.records import Account, Event
from sendense_lab.simulator.shapes import Fields
from sendense_lab.simulator.world import World

KNOWN_JOB_FIELDS = ("accountid", "userid", "jobid", "jobprocstatus", "jobresultcode", "created")


@command("listCapabilities")
def list_capabilities(call: Call) -> Body:
    """Lists capabilities"""
    world = call.world
    fields: Fields = {
        "securitygroupsenabled": False,
        "dynamicrolesenabled": True,
        "cloudstackversion": world.full_version,
        "userpublictemplateenabled": True,
        "supportELB": "false",
        "projectinviterequired": False,
        "allowusercreateprojects": True,
        "customdiskofferingminsize": 1,
        "customdiskofferingmaxsize": 1024,
        "regionsecondaryenabled": False,
        "kvmsnapshotenabled": world.is_set("kvm.snapshot.enabled"),
        "allowuserviewdestroyedvm": False,
        "allowuserexpungerecovervm": False,
        "allowuserexpungerecovervolume": False,
        "allowuserviewalldomainaccounts": False,
        "kubernetesserviceenabled": False,
        "kubernetesclusterexperimentalfeaturesenabled": False,
        "defaultuipagesize": 20,
        "instancesstatsretentiontime": 720,
        "instancesstatsuseronly": False,
        "instancesdisksstatsretentionenabled": False,
        "instancesdisksstatsretentiontime": 720,
    }
    if world.is_set("api.throttling.enabled"):
        fields |= {
            "apilimitinterval": int(world.settings["api.throttling.interval"]),
            "apilimitmax": int(world.settings["api.throttling.max"]),
        }
    return {"capability": fields}


@command("listApis", "name")
def list_apis(call: Call) -> Body:
    """lists all available apis on the server, provided by the Api Discovery plugin"""
    wanted = call.text("name")
    account = call.caller.account
    known = [
        one for one in COMMANDS.values()
        if one.known_to(call.world) and (not wanted or one.name.lower() == wanted.lower())
        and roles.allowed(call.world, account, one)
        and roles.allowed_by_key(list(call.caller.key_rules), one)
    ]  # fmt: skip
    if wanted and not known:
        raise bad(f"Unable to find API with name: {wanted}")
    return {"count": len(known), "api": [_api(call.world, one) for one in known]}


def _api(world: World, one: Command) -> Fields:
    params: list[Fields] = [
        {
            "name": param.name,
            "description": "",
            "type": "list" if param.kind == "uuids" else param.kind,
            "length": 255,
            "required": param.required,
        }
        for param in one.params
        if param.known_to(world)
    ]
    return {
        "name": one.name,
        "description": one.description,
        "isasync": one.is_async,
        "related": "",
        "params": params,
        "response": [
            {},
            {"name": "id", "description": "the ID", "type": "string"},
            {"name": "name", "description": "the name", "type": "string"},
        ],
    }


@command("queryAsyncJobResult", "jobid!")
def query_async_job_result(call: Call) -> Body:
    """Retrieves the current status of asynchronous job."""
    key = call.text("jobid")
    job = call.jobs.find(key)
    if job is None:
        raise bad(f"Unable to find a job by id {key}")
    scope.check_account(call.world, call.caller, call.world.get(Account, job.account_id))
    return jobs.shape(call.world, job)


@command("listAsyncJobs", f"startdate managementserverid {OWNED} {PAGED}")
def list_async_jobs(call: Call) -> Body:
    """Lists all pending asynchronous jobs for the account."""
    sees = scope.visible(call)
    start = moment(call.text("startdate"))
    found = [
        job for job in call.jobs.all()
        if sees(job.account_id) and (start is None or job.created >= start)
    ]  # fmt: skip
    return call.listing("asyncjobs", found, lambda job: jobs.shape(call.world, job))


def moment(text: str) -> datetime | None:
    """Read a date as CloudStack takes it: a day, or a day and a time, in UTC."""
    if not text:
        return None
    for pattern in ("%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d"):
        try:
            found = datetime.strptime(text, pattern)  # noqa: DTZ007 - see below
        except ValueError:
            continue
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    raise bad(f"Unable to parse date {text}")


@command(
    "listEvents",
    f"id type level startdate enddate resourceid resourcetype startid archived:boolean duration "
    f"entrytime {OWNED} {PAGED}",
)
def list_events(call: Call) -> Body:
    """A command to list events."""
    sees = scope.visible(call)
    start, end = moment(call.text("startdate")), moment(call.text("enddate"))
    found = [
        event for event in call.events.newest_first()
        if sees(event.account_id)
        and (start is None or event.created >= start)
        and (end is None or event.created <= end)
        and _is_asked_for(call, event)
    ]  # fmt: skip
    return call.listing("event", found, lambda event: events.shape(call.world, event))


def _is_asked_for(call: Call, event: Event) -> bool:
    wanted = {
        "id": event.id,
        "type": event.kind,
        "level": event.level,
        "resourceid": event.resource_id,
        "resourcetype": event.resource_kind,
    }
    if any(call.text(name) and call.text(name) != value for name, value in wanted.items()):
        return False
    if call.text("startid") and call.text("startid") not in (event.id, event.parent_id):
        return False
    word = call.text("keyword").lower()
    return not word or word in f"{event.kind} {event.description} {event.level}".lower()


@command("listEventTypes")
def list_event_types(call: Call) -> Body:
    """List Event Types"""
    kinds = sorted({event.kind for event in call.events.newest_first()})
    return {"count": len(kinds), "eventtype": [{"name": kind} for kind in kinds]} if kinds else {}


@command("listConfigurations", f"name category zoneid:uuid/zone {PAGED}", access=ADMIN)
def list_configurations(call: Call) -> Body:
    """Lists all configurations."""
    name, word = call.text("name"), call.text("keyword")
    rows = [
        (key, value) for key, value in sorted(call.world.settings.items())
        if (not name or key == name) and word in key
    ]  # fmt: skip
    return call.listing(
        "configuration",
        rows,
        lambda row: {"category": "Advanced", "name": row[0], "value": row[1], "isdynamic": True},
    )
