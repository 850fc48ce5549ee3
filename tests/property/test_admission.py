"""Whatever waits and runs: no limit is passed, and nothing waits without a reason."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sendense.model.admission import BURDEN_HOSTS, Limits, Load, Waiting, admit
from sendense.model.job import JobKind

few = st.sampled_from(["a", "b", "c"])
kinds = st.sampled_from(list(JobKind))
shapes = st.tuples(kinds, st.integers(0, 12).map(str), st.none() | few, st.none() | few)
limits = st.builds(
    Limits,
    total=st.integers(0, 12),
    per_host=st.integers(0, 4),
    per_repository=st.integers(0, 5),
    hosts=st.dictionaries(few, st.integers(0, 5)),
)
slots = st.dictionaries(st.sampled_from(["w1", "w2", "w3"]), st.integers(0, 4))


def jobs(shapes):
    return [Waiting(f"job-{number}", *shape) for number, shape in enumerate(shapes)]


@given(st.lists(shapes, max_size=40), limits, st.lists(slots, min_size=1, max_size=4))
def test_limits_are_kept_and_every_wait_has_its_reason(shapes, limits, rounds):
    waiting = jobs(shapes)
    running: list[Waiting] = []
    for free in rounds:
        load = Load(limits, running)
        placed = list(admit(load, waiting, free))
        running += [placement.job for placement in placed]
        waiting = [job for job in waiting if job not in running]

        assert len(running) <= limits.total
        assert max(Counter(job.subject for job in running).values(), default=0) <= 1
        by_host = Counter(job.host_id for job in running if job.kind in BURDEN_HOSTS)
        assert all(
            count <= limits.of_host(host) for host, count in by_host.items() if host is not None
        )
        by_repository = Counter(job.repository_id for job in running)
        assert all(
            count <= limits.per_repository
            for place, count in by_repository.items()
            if place is not None
        )
        taken = Counter(placement.worker for placement in placed)
        assert all(count <= free[worker] for worker, count in taken.items())
        # Whoever still waits does so for a limit, or because no worker has a slot.
        if len(placed) < sum(free.values()):
            assert all(load.waits_for(job) for job in waiting)


@given(st.lists(shapes, max_size=30), limits)
def test_who_comes_first_begins_first_where_both_may(shapes, limits):
    waiting = jobs(shapes)
    placed = [each.job for each in admit(Load(limits, ()), waiting, {"w": 99})]
    assert placed == [job for job in waiting if job in placed]
    # Nobody is held up by those behind: without them the same ones begin.
    for number, job in enumerate(waiting):
        alone = [each.job for each in admit(Load(limits, ()), waiting[: number + 1], {"w": 99})]
        assert (job in alone) == (job in placed)


def test_the_load_is_spread_over_the_workers():
    waiting = [Waiting(str(number), JobKind.VERIFY, str(number)) for number in range(6)]
    placed = admit(Load(Limits(), ()), waiting, {"small": 2, "large": 9, "none": 0})
    assert Counter(each.worker for each in placed) == {"large": 6}
    placed = admit(Load(Limits(), ()), waiting, {"one": 3, "other": 3})
    assert Counter(each.worker for each in placed) == {"one": 3, "other": 3}


def test_a_host_that_takes_nothing_is_full_though_nothing_runs_there():
    load = Load(Limits(hosts={"h": 0}), [])
    job = Waiting("j", JobKind.BACKUP, "vm", host_id="h")
    assert load.full_hosts() == ("h",)
    assert list(admit(load, [job], {"w": 1})) == []
    assert load.waits_for(job)
