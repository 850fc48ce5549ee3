"""Hosts and pools taken out of use and back: instances move away, the API says so on its way."""

from __future__ import annotations

import contextlib

from sendense_lab.simulator import shapes_around as around
from sendense_lab.simulator.call import Call
from sendense_lab.simulator.catalogue import ADMIN, Body, Steps, Work, command
from sendense_lab.simulator.commands_power import about, migrating, shown, starting
from sendense_lab.simulator.errors import INTERNAL, ApiError, bad
from sendense_lab.simulator.jobs import DONE, Job
from sendense_lab.simulator.machines import MachineError
from sendense_lab.simulator.records import Host, Instance, Pool


@command(
    "prepareHostForMaintenance", "id:uuid/host!", access=ADMIN, is_async=True,
    java="admin.host.PrepareForMaintenanceCmd",
)  # fmt: skip
def prepare_host_for_maintenance(call: Call) -> Work:
    """Prepares a host for maintenance."""
    host = call.one("id", Host)
    if host.resource_state not in {"Enabled", "ErrorInMaintenance"}:
        raise bad(f"Host {host.name} is in resource state {host.resource_state}")

    def steps() -> Steps:
        host.resource_state = "PrepareForMaintenance"
        vms = [vm for vm in call.world.all(Instance) if vm.host_id == host.id]
        moves = [_move(call, vm) for vm in vms]
        yield lambda: _all_done(call, moves)
        if any(move.status != DONE for move in moves):
            host.resource_state = "ErrorInMaintenance"
            raise ApiError(INTERNAL, f"Failed to prepare host {host.name} for maintenance")
        host.resource_state = "Maintenance"
        return {"host": around.host(call.world, host)}

    return Work(
        steps(), about=("Host", host.id), event="MAINT.PREPARE",
        words=f"preparing host: {host.id} for maintenance",
    )  # fmt: skip


def _move(call: Call, vm: Instance) -> Job:
    """Begin a job that moves an instance: it waits its turn at the instance as all do."""

    def steps() -> Steps:
        if vm.state == "Running":
            yield from migrating(call, vm)
        return shown(call, vm)

    def told(state: str, level: str) -> None:
        if state == "Completed":
            call.events.add(
                "VM.MIGRATE", f"Migrating VM {vm.id} away", account_id=vm.account_id,
                about=about(vm), level=level, resource=vm.name,
            )  # fmt: skip

    caller = call.caller
    return call.jobs.submit(
        Work(steps(), queue=vm.id, about=about(vm)), account_id=caller.account.id,
        user_id=caller.user.id, java="com.cloud.vm.VmWorkMigrateAway", told=told, for_admin=True,
    )  # fmt: skip


def start_elsewhere(call: Call, vm: Instance) -> Job:
    """Begin a job that starts an instance whose host died."""

    def steps() -> Steps:
        with contextlib.suppress(MachineError):
            yield lambda: call.machines.stop(vm.instance_name, forced=True)
        vm.state, vm.host_id, vm.last_host_id = "Stopped", "", ""
        yield from starting(call, vm)
        return shown(call, vm)

    caller = call.caller
    return call.jobs.submit(
        Work(steps(), queue=vm.id, about=about(vm)), account_id=caller.account.id,
        user_id=caller.user.id, java="com.cloud.ha.HighAvailabilityManagerImpl", for_admin=True,
    )  # fmt: skip


def _all_done(call: Call, moves: list[Job]) -> None:
    with call.world.changed:
        call.world.changed.wait_for(lambda: all(move.status for move in moves))


@command(
    "cancelHostMaintenance", "id:uuid/host!", access=ADMIN, is_async=True,
    java="admin.host.CancelMaintenanceCmd",
)  # fmt: skip
def cancel_host_maintenance(call: Call) -> Work:
    """Cancels host maintenance."""
    host = call.one("id", Host)
    if host.resource_state not in {"Maintenance", "PrepareForMaintenance", "ErrorInMaintenance"}:
        raise bad(f"Host {host.name} is in resource state {host.resource_state}")

    def steps() -> Steps:
        yield lambda: None
        host.resource_state = "Enabled"
        return {"host": around.host(call.world, host)}

    return Work(
        steps(), about=("Host", host.id), event="MAINT.CANCEL",
        words=f"canceling maintenance for host: {host.id}",
    )  # fmt: skip


@command("updateHost", "id:uuid/host! allocationstate name", access=ADMIN)
def update_host(call: Call) -> Body:
    """Updates a host."""
    host = call.one("id", Host)
    wanted = {"enable": "Enabled", "disable": "Disabled"}.get(call.text("allocationstate").lower())
    host.resource_state = wanted or host.resource_state
    return {"host": around.host(call.world, host)}


# The names of these two and their envelopes differ, as they do in CloudStack.
@command(
    "enableStorageMaintenance", "id:uuid/pool!", access=ADMIN, is_async=True,
    envelope="prepareprimarystorageformaintenanceresponse",
    java="admin.storage.PreparePrimaryStorageForMaintenanceCmd",
)  # fmt: skip
def enable_storage_maintenance(call: Call) -> Work:
    """Puts storage pool into maintenance state"""
    return _pool_state(call, "Maintenance", "MAINT.PREPARE.PS")


@command(
    "cancelStorageMaintenance", "id:uuid/pool!", access=ADMIN, is_async=True,
    envelope="cancelprimarystoragemaintenanceresponse",
    java="admin.storage.CancelPrimaryStorageMaintenanceCmd",
)  # fmt: skip
def cancel_storage_maintenance(call: Call) -> Work:
    """Cancels maintenance for primary storage"""
    return _pool_state(call, "Up", "MAINT.CANCEL.PS")


def _pool_state(call: Call, state: str, event: str) -> Work:
    pool = call.one("id", Pool)

    def steps() -> Steps:
        yield lambda: None
        pool.state = state
        return {"storagepool": around.pool(call.world, pool)}

    return Work(steps(), about=("StoragePool", pool.id), event=event, words=f"pool {pool.id}")
