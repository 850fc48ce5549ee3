"""Restores into a cloud as people ask for them: by command line, through the server's API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sendense import clock
from sendense.catalog.catalog import Catalog
from sendense.cli.main import run
from sendense.model.access import Grant, Role, TenantScope, User
from sendense.server.serving import ApiServer
from sendense_lab.lab import Lab
from sendense_lab.ports import free_port
from tests.vm.ascend_site import AscendSite, lost, shown

pytestmark = pytest.mark.vm

Type = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[AscendSite]:
    with AscendSite.on(lab, kind="Filesystem") as site:
        yield site


@pytest.fixture(scope="module")
def url(site: AscendSite) -> Iterator[str]:
    plane = site.control.plane
    listen = f"127.0.0.1:{free_port()}"
    with ApiServer(plane.settings.model_copy(update={"listen": listen}), plane):
        yield f"http://{listen}"


@pytest.fixture
def type_(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Type:
    """Type a command; gives its exit code and its document."""
    monkeypatch.setenv("SENDENSE_SERVER", url)

    def typed(token: str, *words: str) -> tuple[int, dict[str, Any]]:
        monkeypatch.setenv("SENDENSE_TOKEN", token)
        capsys.readouterr()
        code = run([*words, "--json"])
        return code, json.loads(capsys.readouterr().out)

    return typed


def token_of(catalog: Catalog, name: str, role: Role, grant: Grant | None = None) -> str:
    catalog.users.add(User(name, role, clock.now(), grant=grant or Grant()))
    secret: bytes = catalog.tokens.issue(name, "tests", clock.now())[1].reveal()
    return secret.decode()


def test_planned_asked_for_and_watched(site: AscendSite, type_: Type) -> None:
    admin = token_of(site.control.catalog, "operator", Role.OPERATOR)
    with site.cloud("4.22") as here:
        _, _, was, truth = lost(here)
        restore = ("cloud", "restore", "latest:The shop")
        code, said = type_(admin, *restore, "--plan")
        assert (code, said["plan"]["refused"]) == (2, True)
        assert [each["code"] for each in said["plan"]["refusals"]] == ["not-there"]
        code, said = type_(admin, *restore, "--lost", "--plan")
        assert (code, said["plan"]["way"]) == (0, "import-and-deploy")
        assert here.instances() == []
        code, said = type_(admin, *restore, "--lost", "--wait")
        assert code == 0, said
        made = said["job"]["result"]["instance"]
        assert shown(here.row(made)) == was
        here.api.run("stopVirtualMachine", id=made)
        here.ensure_same(made, truth)


def test_a_tenant_restores_its_own_and_nothing_else(site: AscendSite, type_: Type) -> None:
    catalog = site.control.catalog
    with site.cloud("4.22") as here:
        accounts = {}
        for name in ("ann", "bob"):
            here.simulator.create_account(name, domain=f"ROOT/{name}")
            accounts[name] = here.simulator.account(name, f"ROOT/{name}")
        scope = {
            name: TenantScope(here.cloud.id, f"ROOT/{name}", account.domain_id, name)
            for name, account in accounts.items()
        }
        tokens = {
            name: token_of(catalog, name, Role.TENANT, Grant(tenants=(scope[name],)))
            for name in scope
        }
        vm = here.add("desk", account=accounts["ann"])
        other = here.add("safe", account=accounts["bob"])
        point = here.back_up(vm.id)["point"]
        restore = ("cloud", "restore", point)
        assert type_(tokens["bob"], *restore, "--wait")[0] == 3
        assert type_(tokens["ann"], *restore, "--volume", "vdb", "--to", other.id)[0] == 3
        assert type_(tokens["ann"], *restore, "--new-name", "x", "--account", "bob")[0] == 10
        code, said = type_(tokens["ann"], *restore, "--wait")
        assert code == 0, said
        here.simulator.expunge(vm)
        here.sync()
        code, said = type_(tokens["ann"], *restore, "--lost", "--wait")
        assert code == 0, said
        row = here.row(said["job"]["result"]["instance"])
        assert (row["name"], row["account"]) == ("desk", "ann")
