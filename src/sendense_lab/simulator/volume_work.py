"""What happens to volumes as parts of other work: they come to be, and go."""

from __future__ import annotations

from sendense_lab.simulator.call import Call
from sendense_lab.simulator.catalogue import Steps
from sendense_lab.simulator.errors import INTERNAL, ApiError
from sendense_lab.simulator.machine_work import choose_pool
from sendense_lab.simulator.machines import MachineError
from sendense_lab.simulator.records import Instance, Pool, Template, Volume


def allocate(call: Call, disk: Volume, vm: Instance | None, pool: Pool | None = None) -> Steps:
    """Make the file of a volume that is a row only."""
    world = call.world
    pool = pool or choose_pool(world, disk.zone_id, vm)
    template = world.find(Template, disk.template_id) if disk.template_id else None
    name = template.machine_name if template and not template.is_iso else ""
    path, size, where = disk.id, disk.size, pool.id
    disk.state = "Creating"
    try:
        made = yield lambda: call.machines.create_volume(where, path, size, template=name)
    except MachineError as error:
        disk.state = "Allocated"
        raise ApiError(INTERNAL, f"Failed to create volume {disk.name}: {error}") from error
    except BaseException:
        disk.state = "Allocated"
        raise
    disk.pool_id, disk.path, disk.state = pool.id, path, "Ready"
    disk.size = made if isinstance(made, int) else size
    return {}
