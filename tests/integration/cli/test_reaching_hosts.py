"""How hosts are reached is looked at before any of them is asked."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize("command", ["deploy", "upgrade", "remove"])
def test_no_host_is_asked_with_what_cannot_reach_it(person, tmp_path, command):
    line = ("host", command, "kvm1")
    missing = tmp_path / "none"
    for option in ("--ssh-key", "--ssh-password-file", "--sudo-password-file", "--known-hosts"):
        answer = person.refused(*line, option, missing, code=3, says=f"there is no {missing}")
        assert "kvm1" not in answer.err
    for port in ("0", "65536"):
        person.refused(*line, "--ssh-port", port, code=2, says="--ssh-port")
    person.refused(*line, "--fingerprint", "ab:cd:ef", code=2, says="begins with SHA256:")
