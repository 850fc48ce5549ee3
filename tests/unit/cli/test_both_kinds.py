"""One life of a repository of each kind, by the same commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from sendense.model.decision import Method
from sendense.model.secret import Secret
from sendense.repository.opening import Access, open_repository
from tests.support.points import Write, data, disk, noise, store
from tests.unit.cli.stage import PASSPHRASE, Stage, document

SIZE = 8 << 20
ACCESS = Access(secret=lambda _new: Secret(PASSPHRASE))


@dataclass(frozen=True)
class Site:
    """A repository that commands know by its URL."""

    stage: Stage
    url: str
    kind: str

    def run(self, *arguments: object) -> int:
        return self.stage.run(*arguments, "-r", self.url)

    def put(self, point_id: str, *chunks, method=Method.EVERYTHING) -> None:
        """Make a point, as a backup does."""
        repository = open_repository(self.url, ACCESS)
        try:
            store(repository, point_id, Write(disk(), SIZE, chunks, method))
        finally:
            repository.close()


@pytest.fixture(params=["qcow2-chain", "dedup"])
def site(request, real_stage, tmp_path, monkeypatch, passphrase_file):
    monkeypatch.setenv("SENDENSE_PASSPHRASE_FILE", str(passphrase_file))
    prefix = "qcow2:" if request.param == "qcow2-chain" else ""
    made = Site(real_stage, f"{prefix}{tmp_path / 'repository'}", request.param)
    assert real_stage.run("repo", "init", made.url) == 0
    made.put("p1", data(0, noise(1 << 20)))
    made.put("p2", data(1 << 20, noise(1 << 20, 2)), method=Method.BITMAP)
    return made


def documented(site: Site, capsys, *arguments: object):
    capsys.readouterr()
    assert site.run(*arguments, "--json") == 0
    return document(capsys.readouterr())


def test_it_is_not_made_twice(site, capsys):
    assert site.stage.run("repo", "init", site.url) == 2
    assert "error" in capsys.readouterr().err


def test_it_is_opened_without_its_kind(site, capsys):
    """The directory says which kind it is."""
    assert site.stage.run("points", "list", "-r", site.url.removeprefix("qcow2:")) == 0


def test_list_and_show(site, capsys):
    points = documented(site, capsys, "points", "list")["points"]
    assert [point["id"] for point in points] == ["p1", "p2"]
    shown = documented(site, capsys, "points", "show", "latest:i-2-10-VM")["point"]
    assert shown["id"] == "p2"


def test_info(site, capsys):
    info = documented(site, capsys, "repo", "info")["repository"]
    assert (info["kind"], info["points"], info["machines"]) == (site.kind, 2, 1)
    assert info["logical_bytes"] == 2 * SIZE
    assert info["unique_bytes"] == 2 << 20
    assert info["stored_bytes"] >= 2 << 20
    assert (info["dedup"] is None) == (site.kind == "qcow2-chain")


def test_verify(site, capsys):
    assert documented(site, capsys, "verify", "--all")["sound"] is True


def test_restore(site, capsys, tmp_path):
    into = tmp_path / "restored"
    arguments = ["restore", "p1", "--output", into, "--format", "raw", "--verify"]
    assert site.run(*arguments, "-q") == 0, capsys.readouterr().err
    content = (into / "vda.raw").read_bytes()
    assert content == noise(1 << 20) + bytes(SIZE - (1 << 20))


def test_prune_and_delete(site, capsys):
    assert documented(site, capsys, "prune", "--all", "--keep-last", "1")["deleted"] == ["p1"]
    assert site.run("points", "delete", "p2", "--yes") == 0
    assert ("repo gc" in capsys.readouterr().err) == (site.kind == "dedup")
    assert documented(site, capsys, "points", "list")["points"] == []


def test_what_a_deletion_merges(site, capsys):
    assert site.run("points", "delete", "p1", "--yes") == 0
    told = capsys.readouterr().err
    assert ("vda of p1 is merged into p2" in told) == (site.kind == "qcow2-chain")


def test_pin_and_rebuild(site, capsys):
    assert site.run("points", "pin", "p1", "--note", "audit") == 0
    assert site.run("points", "delete", "p1", "--yes") == 10
    assert documented(site, capsys, "repo", "rebuild") == {"points": 2}


def test_stats(site, capsys):
    shown = documented(site, capsys, "repo", "stats", "--points")
    assert shown["statistics"]["logical_bytes"] == 2 * SIZE
    assert [point["new_bytes"] for point in shown["points"]] == [1 << 20, 1 << 20]
    (machine,) = shown["machines"]
    assert (machine["points"], machine["logical_bytes"]) == (2, 2 * SIZE)
    assert site.run("repo", "stats", "--points") == 0
    assert "to 1" in capsys.readouterr().out


def test_nothing_is_left_open(site):
    """A lease or a lock that stayed would keep the next command out."""
    for arguments in (["verify", "p1"], ["points", "delete", "p1", "--yes"]):
        assert site.run(*arguments) == 0
    leases = Path(site.url.removeprefix("qcow2:")) / "leases"
    assert not leases.exists() or not list(leases.iterdir())
