"""What undoes a restore is not pruned while somebody may need it, in a real repository."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sendense import clock
from sendense.catalog.catalog import Catalog
from sendense.model.coding import encode
from sendense.model.job import Job, JobKind, JobRequest, JobState, Json
from sendense.model.point import SAFETY
from sendense.model.retention import KeepRules
from sendense.settings import Settings
from sendense.workflows.managed.estate import Estate
from sendense.workflows.managed.upkeep import prune
from tests.support.catalogs import catalog_at, sqlite_urls
from tests.support.fleet import a_repository_entry
from tests.support.points import MACHINE_UUID, Write, data, disk, noise, store

KEEP = encode(KeepRules(last=1))


class Task:
    """A job in nobody's hands."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.facts: tuple[Json, ...] = ()

    def report(self, progress: Any) -> None:
        """Tell nobody."""

    def check(self) -> None:
        """Never stop."""

    def remember(self, fact: Json) -> None:
        """Forget it."""

    def waiting(self, reason: str | None) -> None:
        """Tell nobody."""


class Vault:
    """A repository with a backup, a safety point of long ago, and a newer backup."""

    def __init__(self, catalog: Catalog, folder: Path) -> None:
        entry = replace(a_repository_entry(), url=f"qcow2:{folder}/vault")
        catalog.repositories.add(entry)
        self.catalog = catalog
        self.estate = Estate(catalog, Settings(cache_dir=folder / "cache"))
        self.estate.create(entry)
        with self.estate.repository(entry.id) as repository:
            for point, attachments in (("p1", {}), ("s1", {SAFETY: b"{}"}), ("p2", {})):
                write = Write(disk(), 1 << 20, (data(0, noise(65536)),))
                store(repository, point, write, attachments=attachments)

    def restore(self, repository_id: str = "id-main") -> Job:
        request = JobRequest(JobKind.RESTORE, MACHINE_UUID, {}, "ada", repository_id=repository_id)
        job = self.catalog.jobs.submit(request, clock.now())
        self.catalog.jobs.remember(
            job.id, {"ascend": "begun", "piece": 3, "host": "h", "attempt": {"point": "s1"}}
        )
        return job

    def pruned(self) -> tuple[list[str], dict[str, str]]:
        """Prune by a job; gives what went, and why the rest stays."""
        request = JobRequest(
            JobKind.PRUNE, MACHINE_UUID, {"keep": KEEP}, "ada", repository_id="id-main"
        )
        done = prune(self.estate, Task(self.catalog.jobs.submit(request, clock.now())))
        return list(done["deleted"]), {each["point"]: each["reason"] for each in done["kept"]}


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    with sqlite_urls() as new_url, catalog_at(new_url()) as catalog:
        yield Vault(catalog, tmp_path)


def test_it_stays_until_its_restore_is_finished(vault: Vault) -> None:
    job = vault.restore()
    deleted, kept = vault.pruned()
    assert deleted == ["p1"]
    assert kept["s1"] == f"undoes the restore {job.id}, which is not finished"
    now = clock.now()
    vault.catalog.jobs.move(job.id, JobState.QUEUED, JobState.RUNNING, now)
    vault.catalog.jobs.move(job.id, JobState.RUNNING, JobState.SUCCEEDED, now)
    assert vault.pruned() == (["s1"], {"p2": kept["p2"]})


def test_it_stays_for_the_time_that_the_settings_say(vault: Vault) -> None:
    long = Settings(cache_dir=vault.estate.engine.cache_dir, keep_safety=timedelta(days=36500))
    vault.estate = replace(vault.estate, engine=long)
    deleted, kept = vault.pruned()
    assert deleted == ["p1"]
    assert "undoes a restore" in kept["s1"]
