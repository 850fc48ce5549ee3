"""Settings of the server: what is wrong with them is said with the place to mend."""

from pathlib import Path

import pytest

from sendense.errors import Rejected
from sendense.server.settings import load_server_settings


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the settings file that is read."""
    file = tmp_path / "server.yaml"
    file.write_text("listen: 127.0.0.1:9000\n")
    monkeypatch.setenv("SENDENSE_SERVER_CONFIG", str(file))
    return file


def test_the_environment_wins_over_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_server_settings().listen == "127.0.0.1:9000"
    monkeypatch.setenv("SENDENSE_SERVER_LISTEN", "127.0.0.1:9001")
    assert load_server_settings().listen == "127.0.0.1:9001"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_jobs: 3\nlisten: [\n", r"server.yaml is not YAML: line 3, column 1: "),
        ("- listen\n", r"server.yaml is not a list of 'setting: value' lines"),
        ("max_job: 3\n", r"not usable: max_job: there is no such setting"),
        ("listen: here\n", r"not usable: 'here' is no address such as 127.0.0.1:8443"),
        ("cloud_login_passwords: perhaps\n", r"not usable: cloud_login_passwords: .* boolean"),
        ("forward_address: gate\n", r"not usable: forward_address: 'gate' is no IP address"),
    ],
)
def test_an_unusable_file_is_named_with_its_fault(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    with pytest.raises(Rejected, match=said) as caught:
        load_server_settings()
    assert "server.yaml" in f"{caught.value.message} {caught.value.hint}"


def test_passwords_of_clouds_are_off_until_somebody_turns_them_on(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not load_server_settings().cloud_login_passwords
    file.write_text("cloud_login_passwords: true\n")
    assert load_server_settings().cloud_login_passwords
    monkeypatch.setenv("SENDENSE_SERVER_CLOUD_LOGIN_PASSWORDS", "false")
    assert not load_server_settings().cloud_login_passwords


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("SENDENSE_SERVER_LISTNE", "did you mean SENDENSE_SERVER_LISTEN?"),
        ("SENDENSE_SERVER_CONFG", "did you mean SENDENSE_SERVER_CONFIG?"),
        ("SENDENSE_SERVER_ZZZZZZZZZZZZZZZZZZ", "docs/server.md lists all settings"),
    ],
)
@pytest.mark.usefixtures("file")
def test_a_variable_that_is_no_setting_is_refused(
    name: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(Rejected, match=f"{name} is no setting of the server") as caught:
        load_server_settings()
    assert caught.value.hint == hint


@pytest.mark.usefixtures("file")
def test_variables_of_a_service_in_kubernetes_are_no_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "SERVICE_HOST": "10.96.0.11",
        "SERVICE_PORT": "443",
        "SERVICE_PORT_HTTPS": "443",
        "PORT": "tcp://10.96.0.11:443",
        "PORT_443_TCP": "tcp://10.96.0.11:443",
        "PORT_443_TCP_ADDR": "10.96.0.11",
        "PORT_443_TCP_PORT": "443",
        "PORT_443_TCP_PROTO": "tcp",
        "PORT_53_UDP": "udp://[fd00::1]:53",
        "PORT_53_UDP_ADDR": "fd00::1",
        "GATEWAY_SERVICE_HOST": "fd00::1",
        "GATEWAY_PORT_443_TCP_PROTO": "tcp",
    }.items():
        monkeypatch.setenv(f"SENDENSE_SERVER_{name}", value)
    assert load_server_settings().listen == "127.0.0.1:9000"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "8443"),
        ("PORT", "https://10.96.0.11:443"),
        ("SERVICE_HOST", "sendense.example.net"),
        ("SERVICE_HOST", "10.96.0.11\n"),
        ("SERVICE_PORT", "tcp"),
        ("SERVICE_PORTS", "443"),
        ("PORT_443_TCP_PROTO", "on"),
        ("PORT_443_SCTP", "tcp://10.96.0.11:443"),
        ("HOST", "10.96.0.11"),
        ("service_host", "10.96.0.11"),
    ],
)
@pytest.mark.usefixtures("file")
def test_what_only_resembles_them_is_refused(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"SENDENSE_SERVER_{name}", value)
    with pytest.raises(Rejected, match=f"{name} is no setting of the server"):
        load_server_settings()
