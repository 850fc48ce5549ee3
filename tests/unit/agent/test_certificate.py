"""The end of a host's certificate is known to the agent, and said in time."""

from __future__ import annotations

import base64
import ssl
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sendense import clock
from sendense.agent.certificate import judge_certificate, not_after
from sendense.agent.health import HostHealth
from sendense.agent.settings import AgentSettings, Tls
from sendense.fleet.authority import AGENT_LIFE, Authority
from sendense.model.agent_status import Level

LONG_AGO = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def issued(now: datetime):
    made = Authority.create("tests", now=now)
    authority = Authority(made.certificate, made.key)
    return authority.issue_agent("id-kvm1", ("kvm1.example", "10.0.0.1"), now=now)


WHOLE = ssl.PEM_cert_to_DER_cert(issued(LONG_AGO).certificate.decode())


@pytest.mark.parametrize("now", [LONG_AGO, datetime(2055, 6, 1, tzinfo=UTC)])
def test_the_end_is_read(now: datetime):
    made = issued(now)
    assert not_after(made.certificate.decode()) == made.not_after == now + AGENT_LIFE
    behind = "a comment\n" + made.certificate.decode() + issued(now - 9 * DAY).certificate.decode()
    assert not_after(behind) == made.not_after


@pytest.mark.parametrize(
    ("left", "level", "words"),
    [
        (timedelta(days=61), Level.OK, "in 61 days"),
        (timedelta(days=59, hours=1), Level.WARNING, "in 59 days"),
        (timedelta(hours=1), Level.WARNING, "in 0 days"),
        (timedelta(0), Level.FAILED, "it ended on 2028-01-31"),
    ],
)
def test_it_is_said_in_time(tmp_path: Path, monkeypatch, left, level, words):
    file = tmp_path / "server-cert.pem"
    made = issued(LONG_AGO)
    file.write_bytes(made.certificate)
    monkeypatch.setattr(clock, "now", lambda: made.not_after - left)
    check = judge_certificate(file)
    assert (check.name, check.level) == ("certificate", level)
    assert words in check.message
    assert (check.hint is None) == (level is Level.OK)
    assert level is Level.OK or "host upgrade" in str(check.hint)


@pytest.mark.parametrize("content", ["", "-----BEGIN CERTIFICATE-----\nMAA=\n", "\u00e9"])
def test_a_file_that_is_none(tmp_path: Path, content: str):
    file = tmp_path / "server-cert.pem"
    assert judge_certificate(file).level is Level.FAILED
    file.write_text(content, encoding="utf-8")
    check = judge_certificate(file)
    assert check.level is Level.FAILED
    assert "cannot be read" in check.message


@given(st.data())
def test_whatever_it_holds_is_a_date_or_a_refusal(data: st.DataObject):
    whole = bytearray(WHOLE)
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=8)):
        whole[place] = data.draw(st.integers(0, 255))
    content = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    text = base64.encodebytes(content).decode()
    pem = f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n"
    with suppress(ValueError):
        assert not_after(pem).tzinfo is not None


@pytest.mark.parametrize(("transport", "levels"), [("tls", {Level.WARNING}), ("ssh", set())])
def test_it_is_part_of_the_host_s_health(tmp_path: Path, monkeypatch, transport, levels):
    monkeypatch.setattr("sendense.agent.health.examine_host", lambda *_, **__: ())
    (tmp_path / "server-cert.pem").write_bytes(
        issued(clock.now() - AGENT_LIFE + 9 * DAY).certificate
    )
    settings = AgentSettings(
        "h1", transport=transport, tls=Tls("10.0.0.1", tmp_path), scratch_dir=tmp_path
    )
    health = HostHealth(settings)
    health.start()
    try:
        assert health.wait_first(60)
        found = {check.level for check in health.checks(settings) if check.name == "certificate"}
        assert found == levels
    finally:
        health.stop()
