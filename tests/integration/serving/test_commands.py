"""``sendense mount`` and ``sendense unmount``, as a person and as a script use them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import nbd
import pytest

from tests.contract.repository_content import damage
from tests.integration.serving.site import Site, connected
from tests.support.dedup import PASSPHRASE
from tests.support.points import BLOCK

PROGRAM = [sys.executable, "-c", "from sendense.cli.main import main; main()"]


@pytest.fixture
def desk(tmp_path):
    """A dedup repository, and the settings that lead to it."""
    with Site(tmp_path, "dedup") as site:
        yield Desk(site)


class Desk:
    """Runs command lines."""

    def __init__(self, site: Site) -> None:
        self.site = site
        secret = site.folder / "passphrase"
        secret.touch(mode=0o600)
        secret.write_bytes(PASSPHRASE.reveal())
        self.environment = {
            **{name: value for name, value in os.environ.items() if "SENDENSE" not in name},
            "SENDENSE_REPOSITORY": site.url,
            "SENDENSE_PASSPHRASE_FILE": str(secret),
            "SENDENSE_MOUNT_DIR": str(site.root),
            "SENDENSE_CACHE_DIR": str(site.folder / "cache"),
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*PROGRAM, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, status: int = 0) -> tuple[str, str]:
        with self.start(*arguments) as process:
            try:
                out, err = process.communicate(timeout=120)
            finally:
                process.kill()
        assert process.returncode == status, err
        return out, err

    def document(self, *arguments: str, status: int = 0):
        return json.loads(self.run("--json", *arguments, status=status)[0])

    @contextmanager
    def mounted(self, *arguments: str):
        """Run a mount in the foreground; gives its document and the process."""
        with self.start("--json", "mount", *arguments) as process:
            assert process.stdout is not None
            text = ""
            while not text.endswith("\n}\n"):
                line = process.stdout.readline()
                assert line, process.communicate()[1]
                text += line
            try:
                yield json.loads(text), process
            finally:
                process.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_serves_until_a_signal(desk, number):
    expected = desk.site.fill()["p2", "vda"]
    with desk.mounted("latest:i-2-10-VM") as (document, process):
        assert document["point"] == "p2"
        assert document["uris"] == [disk["uri"] for disk in document["disks"]]
        assert not document["writable"]
        with connected(document["uris"][0]) as client:
            assert client.pread(BLOCK, 0) == expected[:BLOCK]
            process.send_signal(number)
            out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out == ""
    assert list(desk.site.root.iterdir()) == []
    assert list((desk.site.place / "leases").iterdir()) == []


def test_damage_is_the_result_of_a_mount(desk):
    desk.site.fill()
    bad = damage(desk.site.repository, "p1", 2 * BLOCK)
    with desk.mounted("p1", "--disk", "vda") as (document, process):
        with connected(document["uris"][0]) as client, pytest.raises(nbd.Error):
            client.pread(512, bad)
        process.terminate()
        out, err = process.communicate(timeout=120)
    assert process.returncode == 6
    assert out == ""
    assert f"vda at {bad}" in err
    assert "code: damaged" in err


def test_one_that_is_left_running(desk):
    contents = desk.site.fill()
    made = desk.document("mount", "p1", "--detach", "--writable", "--overlay-dir",
                         str(desk.site.overlays))  # fmt: skip
    assert made["detached"]
    assert made["writable"]
    with connected(made["disks"][1]["uri"]) as client:
        assert client.pread(BLOCK, 1 << 20) == contents["p1", "vdb"][1 << 20 : (1 << 20) + BLOCK]
    (listed,) = desk.document("mount", "--list")["mounts"]
    assert {name: listed[name] for name in made} == made
    assert listed["damaged_ranges"] == 0
    sheet, _ = desk.run("mount", "--list")
    assert "vda, vdb" in sheet
    (ended,) = desk.document("unmount", made["address"])["unmounted"]
    assert ended["point"] == "p1"
    assert desk.document("mount", "--list") == {"mounts": []}
    assert "nothing is mounted" in desk.run("unmount", "--all")[0]
    assert list(desk.site.root.iterdir()) == []


def test_damage_is_told_by_who_unmounts(desk):
    desk.site.fill()
    bad = damage(desk.site.repository, "p1", 2 * BLOCK)
    made = desk.document("mount", "p1", "--detach")
    with connected(made["uris"][0]) as client, pytest.raises(nbd.Error):
        client.pread(512, bad)
    (listed,) = desk.document("mount", "--list")["mounts"]
    assert listed["damaged"][0]["offset"] == bad
    assert "DAMAGED" in desk.run("mount", "--list")[0]
    out, err = desk.run("unmount", "p1", "--json", status=6)
    assert json.loads(out)["unmounted"][0]["damaged_ranges"] == 1
    assert "code: damaged" in err


def test_what_people_see(desk):
    desk.site.fill()
    made, note = desk.run("mount", "p1", "--detach", "--writable")
    assert "nbd+unix:///vdb?socket=" in made
    for program in ("qemu-img info", "nbdcopy", "nbdfuse", "sendense unmount"):
        assert program in made
    assert "free" in note
    desk.run("unmount", "p1")


def test_a_wrong_passphrase(desk):
    desk.site.fill()
    secret = desk.site.folder / "wrong"
    secret.touch(mode=0o600)
    secret.write_text("wrong and long enough\n")
    _, err = desk.run("mount", "p1", "--passphrase-file", str(secret), status=10)
    assert "passphrase" in err
