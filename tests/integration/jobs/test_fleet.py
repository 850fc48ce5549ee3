"""The nightly schedule of a fleet: every instance once, and no limit passed on the way."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sendense import clock
from sendense.jobs.dispatcher import Dispatcher
from sendense.jobs.durable import Mailboxes, prepare
from sendense.model.admission import Limits
from tests.support.catalogs import catalog_at
from tests.support.job_process import quick_settings
from tests.support.simulated_fleet import SimulatedFleet


@pytest.mark.slow
def test_a_nightly_schedule_is_worked_off_inside_all_limits(new_url):
    url = new_url()
    # PostgreSQL takes the larger one just as well, but half a minute for it.
    hosts, instances = (1000, 10) if url.startswith("sqlite") else (200, 10)
    prepare(url)
    settings = quick_settings(
        limits=Limits(total=300, per_host=2, per_repository=250), lease_s=600.0
    )
    mailboxes = Mailboxes(url)
    with catalog_at(url) as catalog:
        fleet = SimulatedFleet(catalog, hosts, instances, slots=(100, 100, 80))
        fleet.add_nightly(clock.now() - timedelta(hours=1))
        night = fleet.work_off(Dispatcher(catalog, mailboxes, settings, "d1"))
        print(
            f"\n{catalog.database.kind}: {hosts} hosts x {instances}: {night.jobs} jobs in "
            f"{night.rounds} rounds; at most {night.most_in_total} at once, "
            f"{night.most_per_host} per host, {max(night.hosts_at_once)} hosts at once; "
            f"CPU: first tick {night.schedule_cpu_s:.2f} s, placing {night.place_cpu_s:.2f} s in "
            f"all, longest tick {night.longest_tick_s:.2f} s"
        )
        assert fleet.left() == 0
        assert night.jobs == hosts * instances
        assert night.most_per_host == 2
        assert night.most_in_total <= 250
        assert night.overlaps == 0
    mailboxes.close()
