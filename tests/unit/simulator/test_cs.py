"""The `cs` command line works against it unchanged."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from sendense_lab.simulator.records import ServiceOffering, Template, Zone
from sendense_lab.simulator.standing import ini


@pytest.fixture
def cs(simulator, tmp_path):
    """Run `cs`; gives what it prints."""
    (tmp_path / "cloudstack.ini").write_text(ini(simulator))
    settings = {
        name: value for name, value in os.environ.items()
        if not name.lower().startswith("cloudstack") and not name.lower().endswith("_proxy")
    }  # fmt: skip
    settings |= {"CLOUDSTACK_CONFIG": str(tmp_path / "cloudstack.ini"), "HOME": str(tmp_path)}

    def run(*arguments):
        command = [sys.executable, "-W", "ignore", "-m", "cs", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=settings, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    return run


def test_lists(cs, simulator):
    simulator.add_instance("vm1", tags={"tier": "gold"})
    code, out, err = cs("listVirtualMachines", "listall=true")
    assert code == 0, err
    (vm,) = json.loads(out)["virtualmachine"]
    assert vm["name"] == "vm1"


def test_a_deployment_with_the_result_of_its_job(cs, simulator):
    world = simulator.world
    code, out, err = cs(
        "deployVirtualMachine", f"zoneid={world.all(Zone)[0].id}", "name=by-cs",
        f"serviceofferingid={world.all(ServiceOffering)[0].id}",
        f"templateid={world.named(Template, 'debian-12').id}",
        "displayname=George + Ringo, äöü * [x]",
    )  # fmt: skip
    assert code == 0, err
    vm = json.loads(out)["virtualmachine"]
    assert (vm["state"], vm["displayname"]) == ("Running", "George + Ringo, äöü * [x]")


def test_an_error(cs):
    code, _, err = cs("startVirtualMachine", "id=nothing")
    assert code != 0
    assert "431" in err
