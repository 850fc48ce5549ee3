"""The gateway's folder: written by the control plane, read by the account that the server runs as.

Where the control plane is root, that account is the one that a flaw in the server would give away,
and it must not become root by it.  So nothing that root uses is the account's to change:

* The folder is root's, and the account passes and reads.  It can put no symbolic link in place of
  a file between two steps of ours.
* Owner and length change on an open descriptor, which is the file that was meant, never by name.
  What is opened is not followed where it is a link: the folder may have been the account's before.
* The account owns its log, which it writes, and its private host keys.  Those would be root's and
  readable by its group, but on Debian that is ``nogroup``, which many others are in as well.

Where the control plane is a plain user, the server is as well, and all is that user's.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import BinaryIO

from sendense.errors import NotFound, Rejected


class GatewayFolder:
    """The folder, and how its files come to be."""

    def __init__(self, path: Path, account: str) -> None:
        """Take the folder of a gateway that runs as ``account``; :meth:`prepare` makes it."""
        self.path = path
        self._account = account

    def prepare(self) -> None:
        """Make the folder; who else could write there could let himself in."""
        if not self.path.is_absolute():
            raise Rejected("the gateway's folder has to be an absolute path")
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            if _is_root():
                os.fchown(folder, 0, account_entry(self._account).pw_gid)
            os.fchmod(folder, 0o750 if _is_root() else 0o700)
        finally:
            os.close(folder)

    def write(self, name: str, text: str, *, to_account: bool = False) -> None:
        """Replace a file whole; the account may change it only where it is made over to it."""
        path = self.path / name
        fresh = path.with_name(f".{name}.new")
        fresh.unlink(missing_ok=True)
        # O_EXCL: a link that is there is an error, wherever it leads.
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
            stream.flush()
            self._hand_over(descriptor, to_account=to_account)
            os.fsync(descriptor)
        fresh.replace(path)

    def hand_over(self, name: str, *, to_account: bool) -> None:
        """Give a file that another program made the owner that :meth:`write` would give it."""
        with self.open(name) as stream:
            self._hand_over(stream.fileno(), to_account=to_account)

    def open(self, name: str, flags: int = os.O_RDONLY) -> BinaryIO:
        """Open a file for reading (by ``flags``: for changes as well), never what a link names."""
        return os.fdopen(os.open(self.path / name, flags | os.O_NOFOLLOW), "rb")

    def read(self, name: str) -> str:
        """Give the text of a file."""
        with self.open(name) as stream:
            return stream.read().decode(errors="replace")

    def _hand_over(self, descriptor: int, *, to_account: bool) -> None:
        if not _is_root():
            return
        entry = account_entry(self._account)
        os.fchown(descriptor, entry.pw_uid if to_account else 0, entry.pw_gid)
        os.fchmod(descriptor, 0o600 if to_account else 0o640)


def default_account() -> str:
    """Give whom the server runs as where nobody is named."""
    return "sshd" if _is_root() else pwd.getpwuid(os.geteuid()).pw_name


def account_entry(name: str) -> pwd.struct_passwd:
    """Look an account up, or raise :class:`~sendense.errors.NotFound`."""
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        raise NotFound(
            f"this machine has no account {name!r} for the gateway",
            hint="install openssh-server, which makes the account sshd, or name another",
        ) from error


def _is_root() -> bool:
    return os.geteuid() == 0
