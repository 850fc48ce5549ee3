"""``mount`` and ``unmount``: what is refused before anything is served, and what is shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sendense.cli.exitcodes import ExitCode
from sendense.model.point import PointState
from sendense.serving import mounting
from sendense.serving.mounts import Mount, MountedDisk
from sendense.serving.processes import Process
from sendense.serving.trouble import BadRange, Trouble
from tests.support.builders import a_point
from tests.support.memory_folder import memory_folder
from tests.unit.cli.stage import document


@pytest.fixture(autouse=True)
def mount_dir(monkeypatch):
    with memory_folder() as folder:
        monkeypatch.setenv("SENDENSE_MOUNT_DIR", str(folder / "m"))
        yield folder / "m"


@pytest.fixture
def orders(stage, monkeypatch):
    """Serve nothing, and give what was ordered."""
    stage.add(a_point("aa11", 1), a_point("aa22", 2))
    given = []

    def start(order):
        given.append(order)
        return Stand(order)

    monkeypatch.setattr(mounting, "start", start)
    return given


class Stand:
    """Stands for a server; ends by itself, or runs into ``trouble``."""

    trouble = Trouble()

    def __init__(self, order):
        self.mount = Mount(
            folder=str(order.root / "x"),
            point=order.point.id,
            machine=order.point.machine.name,
            machine_uuid=order.point.machine.uuid,
            repository=order.location,
            disks=tuple(
                MountedDisk(image.disk.target, image.size, f"nbd+unix:///{image.disk.target}?x=y")
                for image in order.disks
            ),
            address="/run/x/nbd",
            writable=order.overlay_dir is not None,
            detached=order.detached,
            since="2026-01-31T12:00:00.000000Z",
            process=Process(4711, 1, "boot"),
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def wait(self):
        pass

    def leave(self):
        pass

    def end(self):
        return self.trouble


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "name a point"),
        (["aa11", "--list"], 2, "leave the POINT out"),
        (["aa11", "--tls", "/tmp"], 2, "--tls goes with --tcp only"),
        (["aa11", "--insecure"], 2, "--insecure goes with --tcp only"),
        (["aa11", "--overlay-dir", "/tmp"], 2, "--overlay-dir goes with --writable only"),
        (["aa11", "--tcp", "nowhere"], 2, "is not HOST:PORT"),
        (["aa11", "--tcp", "0.0.0.0:10809"], 10, "--insecure"),
        (["aa11", "--disk", "vdz"], 3, "no disk 'vdz'"),
        (["aa11", "--at", "2026-01-31"], 2, "names one point already"),
        (["bb"], 3, "no point 'bb'"),
        (["aa"], 2, "means 2 points"),
        (["aa11", "--writable", "--overlay-dir", "/nowhere"], 3, "/nowhere"),
    ],
)
def test_what_is_refused(stage, orders, capsys, arguments, code, words):
    assert stage.run("mount", *arguments, "-r", "mem") == code
    assert words in capsys.readouterr().err
    assert orders == []


def test_what_is_ordered(stage, orders, mount_dir, tmp_path):
    assert stage.run("mount", "aa22", "-r", "mem", "--detach", "-v") == ExitCode.OK
    (order,) = orders
    assert (order.url, order.point.id, order.root) == ("mem", "aa22", mount_dir)
    assert (order.detached, order.overlay_dir, order.tcp) == (True, None, None)
    assert order.log_level == 20
    assert stage.repositories["mem"].closed
    writable = ["--writable", "--overlay-dir", tmp_path, "--tcp", "127.0.0.1:10809"]
    assert stage.run("mount", "latest:i-2-10-VM", "-r", "mem", *writable) == ExitCode.OK
    assert orders[1].overlay_dir == tmp_path
    assert orders[1].tcp.address == "127.0.0.1:10809"
    assert orders[1].point.id == "aa22"


def test_what_is_shown(stage, orders, capsys):
    assert stage.run("mount", "aa11", "-r", "mem") == ExitCode.OK
    shown = capsys.readouterr()
    assert "read-only; process 4711" in shown.out
    assert "qemu-img info 'nbd+unix:///vda?x=y'" in shown.out
    assert "guestfish --ro" in shown.out
    assert "Ctrl-C" in shown.err
    assert stage.run("mount", "aa11", "-r", "mem", "--json", "--writable") == ExitCode.OK
    shown = capsys.readouterr()
    told = document(shown)
    assert told["uris"][0] == "nbd+unix:///vda?x=y"
    assert (told["pid"], told["writable"], told["point"]) == (4711, True, "aa11")
    assert "room" in shown.err


def test_damage_at_the_end(stage, orders, capsys, monkeypatch):
    bad = BadRange("vda", 65536, 4096, "a block is bad")
    monkeypatch.setattr(Stand, "trouble", Trouble(damaged=(bad,)))
    assert stage.run("mount", "aa11", "-r", "mem", "--json") == ExitCode.DAMAGED
    shown = capsys.readouterr()
    assert document(shown)["point"] == "aa11"
    assert "vda at 65536, 4096 bytes: a block is bad" in shown.err
    monkeypatch.setattr(Stand, "trouble", Trouble(failed=2, last="the store is away"))
    assert stage.run("mount", "aa11", "-r", "mem") == ExitCode.UNAVAILABLE
    assert "the store is away" in capsys.readouterr().err


def test_a_point_that_is_known_as_damaged(stage, orders, capsys):
    stage.add(replace(a_point("aa11", 1), state=PointState.DAMAGED))
    assert stage.run("mount", "aa11", "-r", "mem") == ExitCode.OK
    assert "warning: point aa11 is damaged" in capsys.readouterr().err
    assert stage.run("mount", "latest:i-2-10-VM", "-r", "mem") == ExitCode.DAMAGED
    assert len(orders) == 1


def test_nothing_is_mounted(stage, capsys):
    assert stage.run("mount", "--list") == ExitCode.OK
    assert "nothing is mounted" in capsys.readouterr().out
    assert stage.run("mount", "--list", "--json") == ExitCode.OK
    assert document(capsys.readouterr()) == {"mounts": []}
    assert stage.run("unmount", "--all") == ExitCode.OK
    assert stage.run("unmount", "aa11") == ExitCode.NOT_FOUND
    assert stage.run("unmount") == ExitCode.REJECTED
    assert stage.run("unmount", "aa11", "--all") == ExitCode.REJECTED
