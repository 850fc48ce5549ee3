"""What the command hands to the server that it starts, secrets included.

It goes through a file in memory without a name, whose descriptor the server inherits: arguments
and environment of a process can be read by others, and a file on a disk may outlive us.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

from sendense.model.secret import Secret
from sendense.repository.opening import Access, is_chain
from sendense.storage.options import StoreOptions
from sendense.transfer.throttle import UNLIMITED, Throttle


@dataclass(frozen=True)
class Handover:
    """All that the server needs to know."""

    url: str
    point: str
    disks: tuple[str, ...]
    """Identities, in the order in which they are exported."""
    folder: Path
    """The folder of the mount."""
    overlay_dir: Path | None
    """Where what clients write is put meanwhile; none: nobody writes."""
    cache: Path | None
    secret: Secret | None
    credentials: Mapping[str, Secret]
    attempts: int
    patience_s: float
    download_limit: int
    """Bytes per second from the store; 0: no limit."""
    ready_fd: int
    """Where the server says that it serves, or why it does not."""
    log_fd: int
    log_level: int
    syslog: bool
    detached: bool
    """The server outlives the command."""

    def access(self) -> Access:
        """Give what opening the repository takes."""
        held = self.secret
        store = StoreOptions(
            attempts=self.attempts,
            patience_s=self.patience_s,
            download=Throttle(self.download_limit) if self.download_limit else UNLIMITED,
        )
        rest = {"cache": self.cache, "credentials": self.credentials, "store": store}
        return Access(**rest) if held is None else Access(secret=lambda _new: held, **rest)  # type: ignore[arg-type]

    def lay_down(self) -> int:
        """Put it where a child finds it; gives the descriptor, which is for the child alone."""
        fd = os.memfd_create("sendense-handover", os.MFD_CLOEXEC)
        try:
            left = memoryview(json.dumps(self._to_json()).encode())
            while left:
                left = left[os.write(fd, left) :]
            os.lseek(fd, 0, os.SEEK_SET)
        except BaseException:
            os.close(fd)
            raise
        return fd

    @classmethod
    def take_up(cls, fd: int) -> Self:
        """Read what was laid down, and close it: nothing of it is left."""
        with os.fdopen(fd, "rb") as file:
            return cls._from_json(json.loads(file.read()))

    def _to_json(self) -> dict[str, Any]:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {
            **values,
            "folder": str(self.folder),
            "overlay_dir": None if self.overlay_dir is None else str(self.overlay_dir),
            "cache": None if self.cache is None else str(self.cache),
            "secret": None if self.secret is None else _to_text(self.secret),
            "credentials": {name: _to_text(item) for name, item in self.credentials.items()},
        }

    @classmethod
    def _from_json(cls, values: dict[str, Any]) -> Self:
        overlay_dir, cache, secret = values["overlay_dir"], values["cache"], values["secret"]
        return cls(
            **{
                **values,
                "disks": tuple(values["disks"]),
                "folder": Path(values["folder"]),
                "overlay_dir": None if overlay_dir is None else Path(overlay_dir),
                "cache": None if cache is None else Path(cache),
                "secret": None if secret is None else _from_text(secret),
                "credentials": {
                    name: _from_text(item) for name, item in values["credentials"].items()
                },
            }
        )


def secret_for(url: str, access: Access) -> Secret | None:
    """Give the secret that opening a repository asks for; none where it asks for none."""
    return None if is_chain(url) else access.secret(False)


def _to_text(secret: Secret) -> str:
    return base64.b64encode(secret.reveal()).decode("ascii")


def _from_text(text: str) -> Secret:
    return Secret(base64.b64decode(text))
