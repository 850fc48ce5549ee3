"""Every kind of object, spoiled in every way: nothing reads wrongly, it is told, and it heals."""

from __future__ import annotations

from functools import partial

import pytest

from sendense.errors import (
    Busy,
    Damaged,
    NotAllowed,
    NotFound,
    Rejected,
    SendenseError,
    Unsupported,
)
from sendense.repository.dedup.checking.facade import check, repair
from sendense.repository.dedup.checking.findings import CheckLevel, Weight, What
from sendense.repository.dedup.opening import open_dedup
from tests.support.dedup import PASSPHRASE
from tests.support.dedup_site import back_up_again, build
from tests.support.points import restored
from tests.support.spoiling import KINDS, SPOILS, names_of, possible

OURS = (Damaged, NotFound, NotAllowed, Rejected, Unsupported)
DATA = CheckLevel.DATA

HARMLESS = {
    ("header", "one-less"): "the last byte is a line end, which says nothing",
    ("slot", "one-less"): "the last byte is a line end, which says nothing",
    ("slot", "deleted"): "nothing else names it, and other slots open the repository",
    ("sequence", "deleted"): "a number may be given out again, which only orders points",
    ("lease", "deleted"): "its holder learns of it when it renews it",
    ("lease", "older"): "it says less of what its holder has seen, so that others wait longer",
    ("condemnation", "deleted"): "what it names is condemned anew",
    ("damage-note", "deleted"): "what it names is found bad again when it is read",
    ("hold", "deleted"): "nothing else tells of a pin, and no data hangs on it",
    ("checked", "deleted"): "what it names counts as never read",
}
"""What no check can see, and why that costs no data."""


@pytest.fixture(scope="module")
def site():
    return build()


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [(kind, spoil) for kind in KINDS for spoil in SPOILS if possible(kind, spoil)],
)
def test_spoiled(site, kind, spoil):
    store = site.store()
    # Only what was written anew has an older version; which lease is the larger one is chance.
    name = next(each for each in names_of(site, kind) if spoil != "older" or each in site.older)
    SPOILS[spoil](site, store, name)
    if kind in ("header", "slot") and spoil != "swapped":
        _opens_or_says_why(site, store, kind)
    repository = site.open(store)
    repository.parts.seen.add(site.objects)
    _reads_rightly_or_says_why(site, repository, name)
    if kind == "lease" and (kind, spoil) not in HARMLESS:
        _keeps_others_waiting(repository, store)
        return
    found = check(repository, DATA)
    if (kind, spoil) in HARMLESS:
        assert found.sound
        assert not found.findings
        return
    _is_told(found, kind, spoil, name)
    _heals(site, repository, kind)


def _opens_or_says_why(site, store, kind):
    """Open with each key: what is spoiled is named, and the other slot opens."""
    opened = 0
    refusals = []
    for secret in (PASSPHRASE, site.recovery):
        try:
            repository = open_dedup(store, partial(_given, secret), cache=None)
        except OURS as error:
            refusals.append(error)
            continue
        assert repository.parts.ring == site.ring
        opened += 1
        repository.close()
    assert opened or kind == "header"
    assert all({"sendense-repository", "slot"} & _words(error) for error in refusals)


def _given(secret):
    return secret


def _words(error):
    return set(f"{error} {error.data}".replace("'", " ").replace(":", " ").split())


def _reads_rightly_or_says_why(site, repository, name):
    listed = {point.id for point in repository.points()}
    lost = {item.id for item in repository.lost()}
    wanted = {point for point, _ in site.contents}
    if name in repository.parts.store.names("points/") or not name.startswith("points/"):
        assert listed | lost == wanted
    for (point, identity), content in site.contents.items():
        said = _restored_or_refused(repository, point, identity, content)
        if said is not None:
            assert name.startswith(("packs/", "points/"))
            assert name.rpartition("/")[2] in said or point in said


def _restored_or_refused(repository, point, identity, content):
    try:
        assert restored(repository, point, identity) == content
    except OURS as error:
        return str(error)
    return None


def _keeps_others_waiting(repository, store):
    """A lease that cannot be read counts, whatever it says, until it expires."""
    with pytest.raises(Busy, match=r"1{32}|2{32}"):
        check(repository, DATA)
    store.pass_time(hours=3)
    assert check(repository, DATA).sound


def _is_told(found, kind, spoil, name):
    told = [finding for finding in found.findings if finding.object == name]
    if (kind, spoil) == ("index", "deleted"):
        told = [finding for finding in found.findings if finding.what is What.PACK_UNNAMED]
    assert told, found.findings
    expected = kind in ("checked", "damage-note") or (kind, spoil) == ("point", "deleted")
    assert found.sound == expected
    if kind in ("data-pack", "meta-pack", "index"):
        touched = {point for finding in told for point in finding.points}
        assert touched, "whom it touches is said"
        assert set(found.touched) == {
            point
            for finding in found.findings
            if finding.weight is Weight.DAMAGE
            for point in finding.points
        }


def _heals(site, repository, kind):
    """Do what the finding says, and take full backups; then a check finds nothing any more."""
    put_back = kind in ("header", "slot", "hold", "point")
    if put_back:
        for item in names_of(site, kind):
            repository.parts.store.put(item, site.objects[item])
    elif not check(repository, DATA).sound:
        if kind in ("condemnation", "sequence", "index"):
            repair(repository)
        else:
            back_up_again(repository, site)
    found = check(repository, DATA)
    if kind == "meta-pack" and not found.sound:
        repair(repository)
        found = _without(repository, check(repository, DATA).touched)
    assert found.sound, found.findings
    assert not found.touched
    _reads_rightly(site, repository)
    repair(repository)
    found = check(repository, DATA)
    assert found.sound, found.findings
    _reads_rightly(site, repository)


def _reads_rightly(site, repository):
    there = {point.id for point in repository.points()}
    for (point, identity), content in site.contents.items():
        assert point not in there or restored(repository, point, identity) == content


def _without(repository, touched):
    """Delete points whose trees are lost: the layout of an incremental is nowhere else."""
    store = repository.parts.store
    store.delete([*store.names("holds/"), *store.names("leases/")])
    assert {point.id for point in repository.points()} >= set(touched)
    assert not any(point.startswith("again") for point in touched)
    repository.delete(touched)
    return check(repository, DATA)


def test_what_is_raised_is_ours(site):
    assert all(issubclass(kind, SendenseError) for kind in OURS)
