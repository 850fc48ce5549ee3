"""``copy``: two repositories with a passphrase each, plans, results, and exit codes."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sendense.model.decision import Method
from sendense.model.secret import Secret
from sendense.repository.dedup import damages
from sendense.repository.opening import Access, open_repository
from tests.support.dedup_damage import damage_chunk
from tests.support.points import BLOCK, Write, data, disk, noise, restored, store
from tests.unit.cli.stage import PASSPHRASE, Stage, a_secret_file, document, document_of

SIZE = 8 << 20
OTHER = "a passphrase of another place"
OTHER_UUID = "6f2d3f4e-0000-4000-8000-000000000002"


@dataclass(frozen=True)
class Site:
    """A source with three points of two machines, and an empty target with another passphrase."""

    stage: Stage
    source: Path
    target: Path
    secrets: tuple[Path, Path]
    capsys: pytest.CaptureFixture[str]

    def run(self, *arguments: object, code: int = 0) -> dict[str, Any]:
        """Run ``copy``; gives its document."""
        own, other = self.secrets
        self.capsys.readouterr()
        options = ("-r", self.source, "--passphrase-file", own, "--to", self.target)
        ended = self.stage.run(
            "copy", *arguments, *options, "--to-passphrase-file", other, "--json"
        )
        assert ended == code
        return document(self.capsys.readouterr())

    def opened(self, which: str):
        folder, secret = (self.source, PASSPHRASE) if which == "source" else (self.target, OTHER)
        return open_repository(str(folder), Access(secret=lambda _new: Secret(secret)))

    def put(self, point_id: str, *chunks, method=Method.EVERYTHING, **options) -> None:
        repository = self.opened("source")
        store(repository, point_id, Write(disk(), SIZE, chunks, method), **options)
        repository.close()

    def there(self) -> list[str]:
        repository = self.opened("target")
        ids = [point.id for point in repository.points()]
        repository.close()
        return ids


@pytest.fixture
def site(real_stage, tmp_path, passphrase_file, capsys):
    other = a_secret_file(tmp_path / "other", OTHER)
    made = Site(
        real_stage, tmp_path / "source", tmp_path / "target", (passphrase_file, other), capsys
    )
    for folder, secret in zip((made.source, made.target), made.secrets, strict=True):
        code = real_stage.run("repo", "init", folder, "--passphrase-file", secret, "-q")
        assert code == 0
    made.put("p1", data(0, noise(1 << 20)))
    made.put("p2", data(1 << 20, noise(BLOCK, 2)), method=Method.BITMAP)
    made.put("o1", data(0, noise(BLOCK, 5)), uuid=OTHER_UUID)
    return made


def outcomes(shown):
    return {item["point"]: item["outcome"] for item in shown["points"]}


def test_all(site):
    shown = site.run("--all")
    assert outcomes(shown) == {"p1": "copied", "p2": "copied", "o1": "copied"}
    assert (shown["source"], shown["target"]) == (str(site.source), str(site.target))
    second = next(item for item in shown["points"] if item["point"] == "p2")
    assert second["read_bytes"] == BLOCK
    assert second["verified"] == "structure"
    (copied,) = second["disks"]
    assert (copied["method"], copied["base"], copied["reason"]) == ("bitmap", "p1", "shared")
    repository = site.opened("target")
    assert restored(repository, "p2")[1 << 20 : (1 << 20) + BLOCK] == noise(BLOCK, 2)
    repository.close()
    assert set(outcomes(site.run("--all")).values()) == {"present"}


def test_a_plan_changes_nothing(site):
    shown = site.run("--all", "--dry-run")
    assert shown["dry_run"] is True
    assert outcomes(shown) == {"p1": "copy", "p2": "copy", "o1": "copy"}
    assert shown["estimated_bytes"] == 2 * SIZE + BLOCK
    assert [disk["base"] for item in shown["points"] for disk in item["disks"]] == [
        None,
        "p1",
        None,
    ]
    assert site.there() == []


@pytest.mark.parametrize(
    ("arguments", "there"),
    [
        (["p2"], ["p2"]),
        (["p1", "o1"], ["p1", "o1"]),
        (["latest:i-2-10-VM"], None),
        (["--machine", OTHER_UUID], ["o1"]),
        (["--all", "--last", "1"], ["p2", "o1"]),
        (["--all", "--since", "2026-01-31"], ["p1", "p2", "o1"]),
        (["--all", "--since", "2026-02-01"], []),
    ],
    ids=lambda value: " ".join(value) if value else "-",
)
def test_which(site, arguments, there):
    if there is None:
        assert "means 2 machines" in site.run(*arguments, code=2)["error"]["message"]
        return
    site.run(*arguments)
    assert site.there() == there


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["p1", "--all"],
        ["--all", "--machine", OTHER_UUID],
        ["p1", "--last", "1"],
        ["p1", "--since", "2026-01-01"],
        ["--all", "--last", "0"],
        ["--all", "--since", "yesterday"],
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_refused(site, arguments):
    assert site.run(*arguments, code=2)["error"]["code"] == "rejected"
    assert site.there() == []


def test_an_older_point_by_name(site):
    site.run("p2")
    shown = site.run("p1", code=2)
    assert outcomes(shown) == {"p1": "older"}
    assert outcomes(site.run("--all"))["p1"] == "older"
    assert outcomes(site.run("p1", "--older")) == {"p1": "copied"}
    assert site.there() == ["p2", "p1", "o1"]


def test_a_damaged_point_is_told(site):
    repository = site.opened("source")
    damages.remember(
        repository.parts, points=frozenset(["p1"]), records=frozenset(), packs=frozenset()
    )
    repository.close()
    shown = site.run("--all", code=6)
    assert outcomes(shown) == {"p1": "refused", "p2": "copied", "o1": "copied"}
    assert outcomes(site.run("--all"))["p1"] == "older"


def test_damage_that_is_met(site):
    repository = site.opened("source")
    damage_chunk(repository, "p1", disk().identity, 0)
    repository.close()
    shown = site.run("--all", code=6)
    assert shown["error"]["code"] == "damaged"
    assert outcomes(shown) == {"p1": "failed", "p2": "failed", "o1": "copied"}


def test_verify_reads_back(site):
    shown = site.run("--all", "--verify")
    assert {item["verified"] for item in shown["points"]} == {"data"}


def test_the_wrong_passphrase(site):
    wrong = Site(site.stage, site.source, site.target, (site.secrets[0],) * 2, site.capsys)
    assert wrong.run("--all", code=10)["error"]["code"] == "not-allowed"


def test_itself(site):
    own = Site(site.stage, site.source, site.source, (site.secrets[0],) * 2, site.capsys)
    assert "copied from" in own.run("--all", code=2)["error"]["message"]


def test_a_target_that_is_not_there(site, tmp_path):
    nowhere = Site(site.stage, site.source, tmp_path / "no", site.secrets, site.capsys)
    error = nowhere.run("--all", code=3)["error"]
    assert "repo init" in error["hint"]


def test_names_of_the_settings(site, tmp_path, monkeypatch, capsys):
    own, other = site.secrets
    config = tmp_path / "sendense.yaml"
    config.write_text(
        f"repository: here\nrepositories:\n"
        f"  here: {{url: {site.source}, passphrase_file: {own}}}\n"
        f"  offsite: {{url: {site.target}, passphrase_file: {other}}}\n"
    )
    assert site.stage.run("copy", "--all", "--to", "offsite", "--config", config) == 0
    shown = capsys.readouterr().out
    assert "3 points copied" in shown
    assert "both have" in shown
    assert site.stage.run("copy", "--all", "--to", "offsite", "--config", config) == 0
    shown = capsys.readouterr().out
    assert "3 are in the target already" in shown
    assert "p1" not in shown
    site.put("p3", data(0, noise(BLOCK, 8)), method=Method.BITMAP)
    code = site.stage.run("copy", "--all", "--to", "offsite", "--config", config, "--dry-run")
    shown = capsys.readouterr().out
    assert code == 0
    assert "1 point would be copied" in shown


def test_into_a_chain(site, tmp_path):
    chain = tmp_path / "chain"
    assert site.stage.run("repo", "init", f"qcow2:{chain}", "-q") == 0
    site.capsys.readouterr()
    options = ("-r", site.source, "--passphrase-file", site.secrets[0])
    assert site.stage.run("copy", "--all", "--to", chain, *options) == 0
    back = tmp_path / "back"
    assert site.stage.run("repo", "init", back, "--passphrase-file", site.secrets[1], "-q") == 0
    into = ("--to", back, "--to-passphrase-file", site.secrets[1])
    assert site.stage.run("copy", "--all", "-r", chain, *into) == 0


def test_ctrl_c_ends_it_within_a_second_or_two(site):
    """In a process of its own; the lease is given up, and the next run goes on."""
    own, other = site.secrets
    code = "from sendense.cli.main import main; main()"
    command = [sys.executable, "-c", code, "copy", "--all", "--bandwidth-limit", "128K", "--json"]
    command += ["-r", str(site.source), "--passphrase-file", str(own)]
    command += ["--to", str(site.target), "--to-passphrase-file", str(other)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        leases = site.target / "leases"
        for _ in range(300):
            if leases.is_dir() and any(leases.iterdir()):
                break
            time.sleep(0.05)
        time.sleep(1.5)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=30)
        took = time.monotonic() - began
    assert process.returncode == 130
    shown = document_of(out.decode())
    assert set(outcomes(shown).values()) == {"cancelled"}
    assert took < 3
    assert list(leases.iterdir()) == []
    assert set(outcomes(site.run("--all")).values()) == {"copied"}
