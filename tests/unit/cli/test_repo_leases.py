"""``repo leases`` and ``unlock``: who is at work, and breaking what a lost host left."""

from __future__ import annotations

import pytest

from sendense.model.secret import Secret
from sendense.repository.dedup.lease_claim import LeaseKind, Wish
from sendense.repository.opening import Access, open_repository
from sendense.workflows.repository_facts import require_dedup
from tests.unit.cli.stage import PASSPHRASE, document


@pytest.fixture
def at_work(dedup):
    """Let somebody else collect garbage."""
    repository = require_dedup(
        open_repository(str(dedup), Access(secret=lambda _new: Secret(PASSPHRASE))), "leases"
    )
    lease = repository.parts.leases.acquire(Wish(LeaseKind.GC, "a collection of garbage"))
    yield lease
    lease.release()
    repository.close()


@pytest.fixture
def run(real_stage, dedup, passphrase_file):
    def command(*arguments: object) -> int:
        options = ["-r", dedup, "--passphrase-file", passphrase_file]
        code: int = real_stage.run("repo", *arguments, *options)
        return code

    return command


def test_nobody(run, capsys):
    assert run("leases") == 0
    assert "nobody is at work" in capsys.readouterr().out


def test_who_is_at_work(run, capsys, at_work):
    assert run("leases", "--json") == 0
    (lease,) = document(capsys.readouterr())["leases"]
    assert (lease["id"], lease["kind"]) == (at_work.id, "gc")
    assert (lease["text"], lease["dead"]) == ("a collection of garbage", None)
    assert run("leases") == 0
    assert "a collection of garbage" in capsys.readouterr().out
    assert run("info") == 0
    assert "a collection of garbage" in capsys.readouterr().out


def test_unlock_warns_and_asks(run, capsys, at_work):
    assert run("unlock", at_work.id[:6]) == 2
    told = capsys.readouterr().err
    assert "a collection of garbage" in told
    assert "its work comes to nothing" in told
    assert "--yes" in told
    assert at_work.still_there()


def test_unlock(run, capsys, at_work):
    assert run("unlock", at_work.id[:6], "--yes", "--json") == 0
    assert document(capsys.readouterr()) == {"broken": at_work.id}
    assert not at_work.still_there()
    assert run("unlock", at_work.id, "--yes") == 3


def test_a_chain_has_no_leases(real_stage, tmp_path, capsys):
    assert real_stage.run("repo", "init", f"qcow2:{tmp_path / 'c'}") == 0
    assert real_stage.run("repo", "leases", "-r", tmp_path / "c") == 9
    assert "end with who holds them" in capsys.readouterr().err
