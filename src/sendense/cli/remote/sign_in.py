"""Which server commands ask, and with which token: options, environment, or what ``login`` kept.

What is named first counts: the option, then the environment, then the file that ``sendense login``
wrote.  A token that was kept goes to the server that it was kept for, and to no other: whoever
names another one has to name a token for it too.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from sendense.cli.passphrase import read_secret_file
from sendense.errors import NotAllowed, NotFound, NotSignedIn, Rejected
from sendense.model.secret import Secret

SERVER: Final = "SENDENSE_SERVER"
TOKEN: Final = "SENDENSE_TOKEN"  # noqa: S105 - the name of a variable
TOKEN_FILE: Final = "SENDENSE_TOKEN_FILE"  # noqa: S105 - the name of a variable
CA_FILE: Final = "SENDENSE_CA_FILE"

_LONGEST_TOKEN: Final = 1000
Warn = Callable[[str], None]


@dataclass(frozen=True)
class Server:
    """A server, and how its identity is verified."""

    url: str
    """Without a path of the API, and without a slash at its end."""
    ca_file: Path | None = None
    """Authorities that vouch for it; none: those of the system."""
    insecure: bool = False
    """Whether it may be asked without TLS."""

    @property
    def encrypted(self) -> bool:
        """Tell whether what is sent to it is encrypted."""
        return self.url.startswith("https:")


@dataclass(frozen=True)
class SignIn:
    """A server, and what proves who asks it."""

    server: Server
    token: Secret


@dataclass(frozen=True)
class Asked:
    """What the options of one command say of it."""

    server: str | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    insecure: bool = False


def find_sign_in(asked: Asked, warn: Warn) -> SignIn:
    """Give which server is asked, and with which token."""
    kept = kept_sign_in(warn)
    url = asked.server or os.environ.get(SERVER)
    if url is None and kept is None:
        raise NotSignedIn(
            "no server is named",
            hint=f"sign in with 'sendense login URL', or set {SERVER} and {TOKEN_FILE}",
        )
    if url is None and kept is not None:
        server = _with_options(kept.server, asked)
    else:
        server = server_at(url or "", asked, known=kept.server if kept else None)
    token = given_token(asked.token_file, warn)
    if token is None and kept is not None and kept.server.url == server.url:
        token = kept.token
    if token is None:
        raise NotSignedIn(
            f"there is no token for {server.url}",
            hint=f"sign in with 'sendense login {server.url}', or set {TOKEN_FILE}",
        )
    return SignIn(server, token)


def server_at(url: str, asked: Asked, *, known: Server | None = None) -> Server:
    """Give the server at a URL; one that is not encrypted only where that is harmless or wanted."""
    parts = _parts(url)
    server = Server(f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}")
    if known is not None and known.url == server.url:
        server = known
    server = _with_options(server, asked)
    if not server.encrypted and not server.insecure and not _is_loopback(parts.hostname or ""):
        raise Rejected(
            f"{server.url} is not encrypted: everybody on the way could read the token",
            hint="use https://, or --insecure if the network is yours alone",
        )
    return server


def _with_options(server: Server, asked: Asked) -> Server:
    named = asked.ca_file or (Path(os.environ[CA_FILE]) if os.environ.get(CA_FILE) else None)
    return replace(
        server, ca_file=named or server.ca_file, insecure=asked.insecure or server.insecure
    )


def _parts(url: str) -> SplitResult:
    refusal = Rejected(
        "this is not the URL of a server",
        hint="write https://HOST or https://HOST:PORT, without a user, a token or a query",
    )
    try:
        parts = urlsplit(url if "://" in url else f"https://{url}")
        bad = parts.port is not None and parts.port < 1
    except ValueError:
        raise refusal from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or bad:
        raise refusal
    if "@" in parts.netloc or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise refusal
    return parts


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# --- The token -------------------------------------------------------------------------------


def given_token(file: Path | None, warn: Warn) -> Secret | None:
    """Give the token that an option or the environment names; none where neither does."""
    if file is not None:
        return as_token(read_secret_file(file, warn).reveal(), str(file))
    named = os.environ.get(TOKEN_FILE)
    if named:
        return as_token(read_secret_file(Path(named), warn).reveal(), named)
    value = os.environb.get(os.fsencode(TOKEN))
    return None if value is None else as_token(value, TOKEN)


def as_token(text: bytes, where: str) -> Secret:
    """Read a token; what is no token is never shown, for it may be another secret."""
    line = text.removeprefix(b"\xef\xbb\xbf").strip()
    if not line:
        raise Rejected(f"the token is empty ({where})", hint="an administrator makes tokens")
    if len(line) > _LONGEST_TOKEN or not all(33 <= byte < 127 for byte in line):
        raise Rejected(f"this is not a token ({where})", hint="it is one word, in one line")
    return Secret(line)


# --- What login keeps ------------------------------------------------------------------------


def kept_file() -> Path:
    """Give where the sign-in of this user is kept."""
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    home = Path(configured) if configured.startswith("/") else Path("~/.config").expanduser()
    return home / "sendense" / "login.json"


def kept_sign_in(warn: Warn) -> SignIn | None:
    """Give the sign-in that was kept, if there is one."""
    path = kept_file()
    try:
        text = read_secret_file(path, warn).reveal()
    except NotFound:
        return None
    try:
        content = json.loads(text)
        ca_file = content["ca_file"]
        server = Server(
            str(content["server"]), Path(ca_file) if ca_file else None, bool(content["insecure"])
        )
        return SignIn(server, as_token(str(content["token"]).encode(), str(path)))
    except (ValueError, KeyError, TypeError):
        # Not chained: the error would show a piece of the file.
        raise Rejected(
            f"{path} is not what 'sendense login' writes", hint="sign in again, or remove it"
        ) from None


def keep(sign_in: SignIn) -> Path:
    """Keep a sign-in for the commands to come; gives where."""
    path = kept_file()
    server = sign_in.server
    content = {
        "server": server.url,
        "ca_file": str(server.ca_file.absolute()) if server.ca_file else None,
        "insecure": server.insecure,
        "token": sign_in.token.reveal().decode(),
    }
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A temporary file of this kind has mode 0600 from its first moment.
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".login-")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(content, file)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise NotAllowed(
            f"{path} cannot be written: {error.strerror or error}",
            hint=f"set {SERVER} and {TOKEN_FILE} instead of signing in",
        ) from error
    return path


def forget() -> bool:
    """Remove what was kept; tells whether there was anything."""
    path = kept_file()
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        return True
    return False
