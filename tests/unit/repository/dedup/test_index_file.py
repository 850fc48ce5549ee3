"""The file of the local index is only a cache: what is wrong with it is made anew, and said."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from random import Random

import pytest

from sendense.errors import Busy, NotAllowed, SendenseError
from sendense.repository.dedup import index_file
from sendense.repository.dedup.local_index import LocalIndex
from tests.support.dedup_records import meta_pack, number_id, pack

IDS = [number_id(n) for n in range(200)]
PACKS = [pack(n, IDS[20 * n : 20 * n + 20]) for n in range(10)]
LEAVES = meta_pack(77, {number_id(1000 + n): (n << 40, 1 << 60) for n in range(40)})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "index"


def fill(path, **options):
    with LocalIndex(path, **options) as index:
        for number, record in enumerate(PACKS):
            index.apply([(f"index/{number}", [record])], [])
        index.apply([("index/leaves", [LEAVES])], [])


def test_what_was_written_is_there_at_the_next_opening(path, caplog):
    fill(path, repository="one")
    with LocalIndex(path, repository="one") as index:
        assert index.stored(IDS) == set(IDS)
        assert len(index.names()) == 11
        assert index.similar_leaf([3 << 40]) == number_id(1003)
    assert not caplog.records
    assert path.stat().st_mode & 0o077 == 0


def other_repository(path):
    fill(path, repository="other")


def other_version(path):
    fill(path)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()


def other_program(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE facts (name, value)")
    connection.commit()
    connection.close()


def missing_table(path):
    fill(path)
    connection = sqlite3.connect(path)
    connection.execute("DROP TABLE lookup")
    connection.close()


def worn_out(path):
    fill(path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE facts SET value = 1 << 40 WHERE name = 'next'")
    connection.commit()
    connection.close()


def no_database(path):
    path.write_bytes(b"a text that somebody put here\n" * 1000)


def torn_header(path):
    fill(path)
    with path.open("r+b") as file:
        file.write(bytes(100))


def cut_to_a_page(path):
    fill(path)
    os.truncate(path, 4096)


@pytest.mark.parametrize(
    "spoil",
    [
        other_repository, other_version, other_program, missing_table, worn_out, no_database,
        torn_header, cut_to_a_page,
    ],
)  # fmt: skip
def test_a_file_of_no_use_is_made_anew(path, spoil, caplog):
    spoil(path)
    caplog.clear()
    with LocalIndex(path) as index:
        assert index.names() == frozenset()
        index.apply([("index/1", [PACKS[0]])], [])
        assert index.stored(IDS[:30]) == set(IDS[:20])
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "made anew" in caplog.text


def test_an_empty_file_is_a_new_one(path, caplog):
    path.touch()
    with LocalIndex(path) as index:
        assert index.names() == frozenset()
    assert not caplog.records


def test_what_was_left_beside_a_deleted_file_is_not_taken_for_its_successors(path):
    fill(path)
    holder = LocalIndex(path)  # keeps what SQLite has put beside the file
    holder.apply([("index/more", [pack(99, [number_id(99999)])])], [])
    path.unlink()
    with LocalIndex(path) as index:
        assert index.names() == frozenset()
        index.apply([("index/1", [PACKS[0]])], [])
        assert len(holder.names()) == 12
        holder.apply([], ["index/0"])
        holder.close()
        assert index.names() == {"index/1"}
        with LocalIndex(path) as third:
            assert third.stored(IDS[:30]) == set(IDS[:20])
            third.apply([("index/2", [PACKS[1]])], [])
        assert index.stored(IDS) == set(IDS[:40])


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotAllowed, match="local index"):
        LocalIndex(tmp_path / "folder")
    (tmp_path / "file").touch()
    with pytest.raises(NotAllowed, match="local index"):
        LocalIndex(tmp_path / "file" / "index")


def test_who_waits_too_long_for_another_process_is_told(path, monkeypatch):
    monkeypatch.setattr(index_file, "BUSY_S", 0.05)
    with LocalIndex(path) as index:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Busy, match="another process"):
            index.apply([("index/1", [PACKS[0]])], [])
        assert index.stored(IDS) == set(), "reading needs no lock"
        other.execute("COMMIT")
        other.close()
        index.apply([("index/1", [PACKS[0]])], [])
        assert index.stored(IDS) == set(IDS[:20])


@pytest.mark.parametrize("seed", range(40))
def test_a_file_with_torn_pages_says_nothing_wrong(path, seed):
    fill(path)
    random = Random(seed)
    data = bytearray(path.read_bytes())
    for _ in range(random.choice((1, 10, 1000))):
        start = random.randrange(len(data))
        noise = random.randbytes(random.choice((1, 8, 300)))
        data[start : start + len(noise)] = noise[: len(data) - start]
    path.write_bytes(data)
    for _ in range(2):
        try:
            use_all(path)
        except SendenseError:
            continue
    # Whatever it was: after a failure, and a new attempt, it can be filled again.
    with LocalIndex(path) as index:
        index.clear()
        index.apply([("index/1", PACKS[:5])], [])
        assert index.stored(IDS) == set(IDS[:100])


def use_all(path):
    with LocalIndex(path) as index:
        index.names()
        assert index.stored(IDS) <= set(IDS)
        assert set(index.find(IDS)) <= set(IDS)
        index.similar_leaf([3 << 40, 1 << 60])
        for record in (*PACKS, LEAVES):
            index.entries_of(record.head.id)
        list(index.packs())
        index.totals()
        index.begin_marking()
        index.mark(IDS)
        list(index.live_by_pack())
        index.apply([("index/more", [pack(99, IDS[:3])])], ["index/3", "index/leaves"])


def use_until_it_breaks(index):
    for _ in range(100):
        index.apply([("index/more", [pack(99, IDS)])], sorted(index.names()))


def test_a_file_that_breaks_under_us_is_removed(path):
    fill(path)
    index = LocalIndex(path)
    index.stored(IDS)
    os.truncate(path, 8192)
    with pytest.raises(SendenseError) as caught:
        use_until_it_breaks(index)
    assert "made anew" in (caught.value.hint or "")
    assert not path.exists()
    fill(path)  # by another process
    with pytest.raises(SendenseError):
        use_until_it_breaks(index)
    index.close()
    with LocalIndex(path) as other:
        assert other.stored(IDS) == set(IDS)


KILLED = """
import sys, time
from pathlib import Path
from sendense import steps
from sendense.repository.dedup.local_index import LocalIndex
from tests.support.dedup_records import number_id, pack

path, stop = Path(sys.argv[1]), int(sys.argv[2])
seen = 0

def reached(step):
    global seen
    seen += step == "dedup:cache-written"
    if seen == stop:
        print("now", flush=True)
        time.sleep(60)

steps.listen(reached)
index = LocalIndex(path)
for n in range(10):
    gone = [f"index/{n - 2}"] if n > 1 else []
    index.apply([(f"index/{n}", [pack(n, [number_id(1000 * n + m) for m in range(1000)])])], gone)
print("now", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("stop", [1, 2, 5, 10, 11])
def test_a_kill_in_the_middle_leaves_whole_index_objects(path, stop):
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(path), str(stop)],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"now\n"
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    with LocalIndex(path) as index:
        names = index.names()
        last = stop - 2  # the one that was being written is not there
        wanted = {n for n in (last - 1, last) if n >= 0}
        assert names == {f"index/{n}" for n in wanted}
        ids = [number_id(1000 * n + m) for n in range(10) for m in range(0, 1000, 37)]
        known = {number_id(1000 * n + m) for n in wanted for m in range(0, 1000, 37)}
        assert index.stored(ids) == known
        index.apply([("index/x", [pack(99, IDS[:20])])], sorted(names))
        assert index.stored(ids) == set(ids) & set(IDS[:20])


ENDLESS = """
import sys
from pathlib import Path
from sendense.repository.dedup.local_index import LocalIndex
from tests.support.dedup_records import number_id, pack

PACKS = [pack(n, [number_id(100 * n + m) for m in range(100)]) for n in range(30)]
with LocalIndex(Path(sys.argv[1])) as index:
    print("now", flush=True)
    while True:
        for n, record in enumerate(PACKS):
            index.apply([(f"index/{n}", [record])], [f"index/{(n + 15) % 30}"])
"""


def test_a_kill_at_any_moment_leaves_whole_index_objects(path):
    random = Random(1)
    for _ in range(6):
        process = subprocess.Popen(
            [sys.executable, "-c", ENDLESS, str(path)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == b"now\n"
            time.sleep(random.random() / 5)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
            process.stdout.close()
        assert_whole(path)


def assert_whole(path):
    """Hold every pack against the index objects, and every record against its pack."""
    with LocalIndex(path) as index:
        packs = [summary.head.id for summary in index.packs()]
        named = {name.removeprefix("index/").split(".")[0] for name in index.names()}
        assert set(packs) == {pack(int(number), []).head.id for number in named}
        for of in packs:
            entries = index.entries_of(of)
            assert len(entries) == 100
            assert set(index.find([entry.id for entry in entries])) == {e.id for e in entries}
        connection = sqlite3.connect(path)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute("SELECT count(*) FROM lookup").fetchone()[0]
        connection.close()
        assert rows == 100 * len(packs)


WRITER = """
import sys
from pathlib import Path
from sendense.repository.dedup.local_index import LocalIndex
from tests.support.dedup_records import number_id, pack

with LocalIndex(Path(sys.argv[1])) as index:
    for n in range(20):
        records = [pack(n, [number_id(100 * n + m) for m in range(100)])]
        index.apply([(f"index/{n}", records), (f"index/{n}.{sys.argv[2]}", records)], [])
        index.apply([], [f"index/{n - 1}", f"index/{n - 1}.{sys.argv[2]}"])
"""


def test_processes_fill_one_file_together(path):
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, name]) for name in "ab"]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    with LocalIndex(path) as index:
        # Each forgets what it has added; an object of both may have come back by the slower one.
        assert {"index/19", "index/19.a", "index/19.b"} <= index.names()
    assert_whole(path)
