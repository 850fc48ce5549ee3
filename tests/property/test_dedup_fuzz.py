"""Random harm to random objects of a small repository: right bytes, or an error of ours."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sendense.errors import SendenseError
from sendense.repository.dedup.checking.facade import check, repair
from sendense.repository.dedup.checking.findings import CheckLevel
from tests.support.dedup_site import back_up_again, build
from tests.support.points import restored

SITE = build()
NAMES = sorted(SITE.objects)
PACKS = [name for name in NAMES if name.startswith("packs/")]

places = st.floats(0, 1, exclude_max=True)
harm = st.one_of(
    st.tuples(st.just("flip"), places, st.integers(0, 7)),
    st.tuples(st.just("write"), places, st.binary(min_size=1, max_size=64)),
    st.tuples(st.just("cut"), places, st.none()),
    st.tuples(st.just("insert"), places, st.binary(min_size=1, max_size=64)),
    st.tuples(st.just("replace"), places, st.binary(max_size=200)),
    st.tuples(st.just("delete"), places, st.none()),
    st.tuples(st.just("exchange"), places, st.sampled_from(NAMES)),
)
harms = st.lists(st.tuples(st.sampled_from(NAMES) | st.sampled_from(PACKS), harm), max_size=3)


def do(store, name, kind, place, what):
    content = bytearray(store.objects.get(name, b""))
    at = int(place * len(content))
    if kind == "delete":
        store.delete([name])
        return
    if kind == "exchange":
        content = store.objects.get(what, b"")
    elif kind == "flip" and content:
        content[at] ^= 1 << what
    elif kind == "write":
        content[at : at + len(what)] = what
    elif kind == "cut":
        del content[at:]
    elif kind == "insert":
        content[at:at] = what
    elif kind == "replace":
        content = what
    store.objects[name] = bytes(content)
    store.modified.setdefault(name, store.now)


def reads(repository):
    """Read all points; gives those that are right."""
    right = set()
    for (point, identity), content in SITE.contents.items():
        try:
            assert restored(repository, point, identity) == content
        except SendenseError:
            continue
        right.add((point, identity))
    return right


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(harms)
def test_nothing_reads_wrongly(chosen):
    store = SITE.store()
    for name, (kind, place, what) in chosen:
        do(store, name, kind, place, what)
    # What is unreadable among the leases holds for two hours, whatever it was.
    store.pass_time(hours=3)
    repository = SITE.open(store)
    try:
        repository.points()
        repository.lost()
        before = reads(repository)
        found = check(repository, CheckLevel.DATA)
        told = set(found.touched) | {item.id for item in repository.lost()}
        listed = {point.id for point in repository.points()}
        unread = {point for point, _ in set(SITE.contents) - before}
        assert unread & listed <= told
        repair(repository)
        assert reads(repository) >= before
        back_up_again(repository, SITE)
        assert reads(repository) >= before
        again = check(repository, CheckLevel.DATA)
        assert not any(point.startswith("again") for point in again.touched)
    finally:
        repository.close()
