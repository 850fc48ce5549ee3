"""Policies into jobs: exactly once, at most one made up, and nothing piles up."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from sendense import clock
from sendense.catalog.jobs import JobFilter
from sendense.catalog.status import summarise
from sendense.errors import NotFound
from sendense.jobs.dispatcher import Dispatcher
from sendense.jobs.durable import Mailboxes
from sendense.jobs.scheduling import run_now
from sendense.model.cloud import CloudHost, CloudKind
from sendense.model.job import JobKind, JobState
from sendense.model.page import every
from sendense.model.policy import MatchRules
from tests.support.builders import a_machine
from tests.support.clouds import KEYS_OF_CLOUD, a_cloud
from tests.support.fleet import a_host, a_policy, a_repository_entry
from tests.support.job_process import quick_settings

HOUR = timedelta(hours=1)


@pytest.fixture
def fleet(site):
    """A site with two hosts, five instances and a repository."""
    now = clock.now()
    for name in ("kvm1", "kvm2"):
        site.catalog.hosts.add(a_host(name))
    site.catalog.repositories.add(a_repository_entry())
    names = ["web-1", "web-2", "db-1"], ["web-3", "db-2"]
    for host, machines in zip(("id-kvm1", "id-kvm2"), names, strict=True):
        shown = [a_machine(uuid=f"uuid-{name}", name=name) for name in machines]
        site.catalog.instances.see(host, shown, now)
    return site


@pytest.fixture
def dispatchers(fleet):
    """Give dispatchers in this process, as many as a test wants."""
    mailboxes = Mailboxes(fleet.url)
    yield lambda name: Dispatcher(fleet.catalog, mailboxes, quick_settings(), name)
    mailboxes.close()


def add_policy(site, made_at, **rules):
    policy = a_policy(**rules)
    policy = type(policy)(policy.id, policy.name, True, policy.rules, made_at, made_at)
    site.catalog.policies.add(policy)
    return policy


def jobs(site, kind=JobKind.BACKUP):
    return list(every(lambda paging: site.catalog.jobs.page(paging, JobFilter(kind=kind))))


def test_many_servers_submit_each_run_once(fleet):
    now = clock.now()
    policy = add_policy(fleet, now - HOUR, schedule="* * * * *", match=MatchRules(names=("web-*",)))
    for name in ("d1", "d2", "d3"):
        fleet.start("dispatcher", name)
    fleet.start("worker", "w1")
    fleet.wait_for(lambda: len(fleet.catalog.rounds.of_policy(policy.id)) > 0, "a round")
    first = fleet.catalog.rounds.of_policy(policy.id)[-1]
    assert first.submitted == 3
    assert first.missed >= 50
    fleet.wait_for(lambda: len(fleet.points()) >= 3, "the backups")
    runs = Counter((job.subject, job.content["due"]) for job in jobs(fleet))
    assert set(runs.values()) == {1}
    assert {subject for subject, _ in runs} == {"uuid-web-1", "uuid-web-2", "uuid-web-3"}


def test_a_server_that_dies_as_it_submits_has_submitted_all_or_nothing(fleet):
    policy = add_policy(fleet, clock.now() - HOUR, schedule=f"{clock.now().minute} * * * *")
    fleet.start("dispatcher", "d1", "--kill-at", "jobs.submitted")
    fleet.died("d1")
    fleet.start("dispatcher", "d2")
    fleet.start("worker", "w1")
    fleet.wait_for(lambda: len(fleet.points()) == 5, "five backups")
    (made,) = fleet.catalog.rounds.of_policy(policy.id)
    assert made.submitted == 5
    assert len(jobs(fleet)) == 5


def test_after_a_standstill_one_run_is_made_up_and_the_rest_is_reported(fleet, dispatchers):
    now = clock.now()
    policy = add_policy(fleet, now - 5 * HOUR - timedelta(minutes=30), schedule="@hourly")
    dispatchers("d1").tick()
    (made,) = fleet.catalog.rounds.of_policy(policy.id)
    assert made.missed in (4, 5)
    assert made.submitted == 5
    assert len(jobs(fleet)) == 5
    assert f"{made.missed} before it missed" in made.reason
    assert list(fleet.catalog.rounds.irregular(now - 9 * HOUR)) == [made]


def test_who_still_waits_gets_no_second_run(fleet, dispatchers):
    now = clock.now()
    policy = add_policy(fleet, now - 2 * HOUR, schedule="* * * * *")
    dispatcher = dispatchers("d1")
    dispatcher.tick()
    for job in jobs(fleet):
        if job.subject != "uuid-db-1":
            fleet.catalog.jobs.request_cancel(job.id, now)
    # Counted from here: a minute may have begun since.
    dispatcher.schedule(clock.now() + timedelta(minutes=1))
    newest = fleet.catalog.rounds.of_policy(policy.id)[0]
    assert (newest.submitted, newest.skipped) == (4, 1)
    assert "1 instances still have a run that waits or runs" in newest.reason
    assert len([job for job in jobs(fleet) if job.subject == "uuid-db-1"]) == 1


def test_what_was_due_before_a_policy_was_edited_is_not_asked_for(fleet, dispatchers):
    now = clock.now()
    policy = add_policy(fleet, now - 9 * HOUR, schedule="@hourly")
    fleet.catalog.policies.edit(policy.id, now, rules=policy.rules)
    dispatchers("d1").schedule(now)
    assert fleet.catalog.rounds.of_policy(policy.id) == ()


def test_jobs_begin_spread_and_inside_their_window(fleet, dispatchers):
    now = clock.now()
    opens = (now + 3 * HOUR).strftime("%H:00")
    closes = (now + 6 * HOUR).strftime("%H:00")
    policy = add_policy(
        fleet, now - 2 * HOUR, schedule="@hourly", window=f"{opens}-{closes}", jitter=HOUR
    )
    dispatchers("d1").tick()
    times = policy.rules.times
    made = jobs(fleet)
    assert len(made) == 5
    for job in made:
        assert job.not_before is not None
        assert job.not_before > now
        assert times.forbids(job.not_before) is None
        assert job.requested_by == "policy:nightly"


def test_a_window_that_closes_keeps_what_waits_from_beginning(fleet, dispatchers):
    now = clock.now()
    dispatcher = dispatchers("d1")
    closed = f"{(now + 2 * HOUR).strftime('%H:00')}-{(now + 3 * HOUR).strftime('%H:00')}"
    policy = add_policy(fleet, now, schedule="@yearly", window=closed)
    job = fleet.submit(subject="uuid-web-1", policy_id=policy.id)
    manual = fleet.submit(subject="uuid-web-2")
    fleet.start("worker", "w1")
    fleet.wait_for(lambda: bool(fleet.catalog.workers.list()), "a worker")
    dispatcher.tick()
    assert fleet.catalog.jobs.get(job.id).state is JobState.QUEUED
    assert fleet.catalog.jobs.get(manual.id).state is not JobState.QUEUED


def test_a_policy_that_is_run_by_hand(fleet):
    now = clock.now()
    policy = add_policy(
        fleet, now, schedule="@yearly", match=MatchRules(names=("web-*",)), jitter=HOUR
    )
    made = run_now(fleet.catalog, policy.id, "ada", now)
    assert (made.due, made.submitted, made.skipped, made.late) == (now, 3, 0, False)
    assert made.reason == "asked for by ada"
    for job in jobs(fleet):
        assert (job.requested_by, job.not_before, job.policy_id) == ("ada", now, policy.id)
    waiting = jobs(fleet)[0]
    for job in jobs(fleet)[1:]:
        fleet.catalog.jobs.request_cancel(job.id, now)
    again = run_now(fleet.catalog, policy.id, "ada", now)
    assert again.due > made.due
    assert (again.submitted, again.skipped) == (2, 1)
    assert len([job for job in jobs(fleet) if job.subject == waiting.subject]) == 1
    assert fleet.catalog.rounds.of_policy(policy.id) == (again, made)


def test_run_by_hand_it_takes_over_what_has_come_due(fleet, dispatchers):
    now = clock.now()
    policy = add_policy(fleet, now - 5 * HOUR - timedelta(minutes=30), schedule="@hourly")
    made = run_now(fleet.catalog, policy.id, "ada", now)
    assert made.missed in (4, 5)
    assert f"{made.missed} before it missed; asked for by ada" in made.reason
    dispatchers("d1").schedule(now)
    assert fleet.catalog.rounds.of_policy(policy.id) == (made,)
    assert len(jobs(fleet)) == 5


def test_run_by_hand_its_window_holds_and_it_may_be_disabled(fleet):
    now = clock.now()
    closed = f"{(now + 2 * HOUR).strftime('%H:00')}-{(now + 3 * HOUR).strftime('%H:00')}"
    policy = add_policy(fleet, now - 9 * HOUR, schedule="@hourly", window=closed)
    fleet.catalog.policies.edit(policy.id, now - 8 * HOUR, enabled=False)
    made = run_now(fleet.catalog, policy.id, "ada", now)
    assert (made.submitted, made.missed, made.late) == (5, 0, False)
    assert made.reason == f"asked for by ada; outside of the window {closed}"
    begins = policy.rules.times.allowed_from(now)
    assert {job.not_before for job in jobs(fleet)} == {begins}


def test_run_by_hand_at_once_nobody_gets_two(fleet):
    policy = add_policy(fleet, clock.now(), schedule="@yearly")
    with ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(run_now, fleet.catalog, policy.id, f"u{n}", clock.now()) for n in range(8)
        ]
    assert sum(each.result().submitted for each in asked) == 5
    assert sorted(Counter(job.subject for job in jobs(fleet)).values()) == [1] * 5
    rounds = list(every(lambda paging: fleet.catalog.rounds.page(policy.id, paging)))
    assert rounds == list(fleet.catalog.rounds.of_policy(policy.id))
    assert len(rounds) == 8
    with pytest.raises(NotFound):
        run_now(fleet.catalog, "none", "ada", clock.now())


def test_one_dispatcher_has_the_turn_and_another_takes_it_from_the_dead(dispatchers):
    first, second = dispatchers("d1"), dispatchers("d2")
    assert first.tick()
    assert not second.tick()
    end = clock.monotonic() + 90
    while not second.tick():  # the first does nothing any more
        assert clock.monotonic() < end
        clock.sleep(0.1)
    assert not first.tick()


def test_what_cloudstack_makes_for_itself_is_no_part_of_a_round(fleet, dispatchers):
    now = clock.now()
    own = [a_machine(uuid=f"uuid-{name}", name=name) for name in ("v-2-VM", "r-4-VM")]
    kept = [a_machine(uuid=f"uuid-{name}", name=name) for name in ("web-1", "web-2", "db-1")]
    fleet.catalog.instances.see("id-kvm1", [*own, *kept], now)
    cloud = fleet.catalog.clouds.add(a_cloud(), KEYS_OF_CLOUD)
    host = CloudHost("h1", "kvm1", "10.0.0.1", "Up", "Enabled", "Routing", "KVM", "z1", "c1")
    fleet.catalog.inventory.take(cloud.id, CloudKind.HOST, [host], now)
    policy = add_policy(fleet, now - HOUR, schedule="0 0 1 1 *")
    made = run_now(fleet.catalog, policy.id, "ada", now)
    assert made.submitted == 5
    assert "2 machines that CloudStack makes for itself are left out" in made.reason
    assert not {job.subject for job in jobs(fleet)} & {each.uuid for each in own}
    summary = summarise(fleet.catalog, now)
    assert sum(summary.counts.values()) == 5
    assert summary.clouds_own == 2
    assert not [each for each in summary.attention if each.instance.own_of]
    (verdict,) = [each for each in summary.verdicts if each.instance.name == "v-2-VM"]
    assert "makes it for itself" in verdict.reason


def test_no_machine_is_left_out_for_a_cloud_whose_hosts_are_not_known(fleet, dispatchers):
    """What such a cloud makes for itself is refused with words by its backup."""
    now = clock.now()
    named = [a_machine(uuid=f"uuid-{name}", name=name) for name in ("v-2026-archive", "r-2-d2")]
    fleet.catalog.instances.see("id-kvm1", named, now)
    fleet.catalog.clouds.add(a_cloud(), KEYS_OF_CLOUD)
    policy = add_policy(fleet, now - HOUR, schedule="0 0 1 1 *")
    made = run_now(fleet.catalog, policy.id, "ada", now)
    assert "left out" not in made.reason
    assert {each.uuid for each in named} <= {job.subject for job in jobs(fleet)}
    summary = summarise(fleet.catalog, now)
    assert (summary.clouds_own, sum(summary.counts.values())) == (0, made.submitted)
