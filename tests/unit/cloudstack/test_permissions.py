"""What a key lacks is named with what it is for, and the printed role is the least."""

import re
import shlex
import subprocess

import pytest

from sendense.cloudstack import permissions
from sendense.cloudstack.features import Features
from sendense.errors import Rejected


def test_what_is_needed_comes_first():
    features = Features(apis=frozenset(one.api for one in permissions.READ[5:-2]))
    found = permissions.missing(features)
    assert [one.permission.api for one in found] == [
        *(one.api for one in permissions.READ[:5]),
        "listTags",
        "listBackupOfferings",
    ]
    assert found[3].words == "listHosts: hosts to deploy agents to, and where an instance runs"


def test_what_only_newer_versions_have_says_so():
    found = permissions.missing(Features(apis=frozenset()), permissions.RESTORE)
    assert any("since 4.19.1" in one.words for one in found)


def test_nothing_is_missing():
    every = frozenset(one.api for one in permissions.READ)
    assert permissions.missing(Features(apis=every)) == ()


def test_what_a_key_may_do_beyond_is_shown():
    every = frozenset(one.api for one in permissions.READ) | {"deleteDomain"}
    assert permissions.too_many(Features(apis=every), permissions.READ) == ("deleteDomain",)


def test_reading_changes_nothing():
    assert all(one.api.startswith(("list", "query")) for one in permissions.READ)


@pytest.mark.parametrize(
    "name", ["Sendense", "O'Brien's; rm -rf /", '"$(reboot)"', "-x", "a b"], ids=range(5)
)
def test_the_commands_can_be_run_as_they_stand(tmp_path, name):
    """By a shell, with a program that writes down what it is called with."""
    cmk = tmp_path / "cmk"
    cmk.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$*" >> "$LOG"\n'
        'case "$4" in role) echo "{ \\"role\\": { \\"id\\": \\"the-id\\" } }";; esac\n'
    )
    cmk.chmod(0o755)
    log = tmp_path / "log"
    script = permissions.cloudmonkey_role(name, permissions.WEBHOOKS, account="sendense")
    subprocess.run(
        ["sh", "-eu"],
        input=script,
        text=True,
        check=True,
        capture_output=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "LOG": str(log)},
    )
    calls = log.read_text().splitlines()
    assert calls[0] == f"-o json create role type=Admin name={name} filter=id"
    assert calls[1:-1] == [
        *(
            f"create rolepermission roleid=the-id permission=allow rule={one.api}"
            for one in permissions.WEBHOOKS
        ),
        "create rolepermission roleid=the-id permission=deny rule=*",
    ]
    assert calls[-1].startswith("create account roleid=the-id username=sendense account=sendense")


def test_the_last_rule_denies_the_rest():
    script = permissions.cloudmonkey_role("x")
    rules = [
        line.split(None, 3)[3]
        for line in script.splitlines()
        if line.startswith("cmk create rolep")
    ]
    assert shlex.split(rules[-1])[1:] == ["permission=deny", "rule=*"]
    assert not any(re.search(r"rule=\S*\*", rule) for rule in rules[:-1])


@pytest.mark.parametrize("name", ["", "  ", "x" * 101, "a\nb"])
def test_no_name(name):
    with pytest.raises(Rejected):
        permissions.cloudmonkey_role(name)
