"""Talking to the guest through its QEMU guest agent, and disturbing that agent on purpose.

All goes through libvirt's agent channel, as the product's freeze and thaw do; there is no other
way into the guest. While file systems are frozen the agent refuses to run commands.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import libvirt
import libvirt_qemu

from sendense_lab.commands import wait_until
from sendense_lab.errors import GuestFailed, TimedOut


class Guest:
    """The operating system inside a running VM."""

    def __init__(self, domain: Callable[[], libvirt.virDomain]) -> None:
        self._domain = domain

    def command(
        self, name: str, arguments: dict[str, object] | None = None, *, timeout_s: int = 5
    ) -> Any:  # noqa: ANN401 - whatever the command returns
        """One command of the agent's own protocol."""
        request: dict[str, object] = {"execute": name}
        if arguments is not None:
            request["arguments"] = arguments
        answer = libvirt_qemu.qemuAgentCommand(self._domain(), json.dumps(request), timeout_s, 0)
        return json.loads(answer)["return"]

    def ping(self, *, timeout_s: int = 2) -> bool:
        """Whether the agent answers."""
        try:
            self.command("guest-ping", timeout_s=timeout_s)
        except libvirt.libvirtError:
            return False
        return True

    def wait_ready(self, *, timeout_s: float = 60) -> None:
        """Wait until the agent answers: file systems are mounted then."""
        wait_until(lambda: self.ping(timeout_s=5), "an answer of the agent", timeout_s=timeout_s)

    def exec(self, argv: Sequence[str], *, timeout_s: float = 60) -> str:
        """Run a command in the guest and return its output."""
        started = self.command(
            "guest-exec", {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
        )
        status = self._wait_exit(started["pid"], argv, timeout_s)
        output = _text(status.get("out-data")) + _text(status.get("err-data"))
        if status.get("exitcode", -1) != 0:
            raise GuestFailed(argv, status.get("exitcode", -1), output)
        return output

    def lab(self, *words: object, timeout_s: float = 60) -> str:
        """Run a step of the guest's `lab` script."""
        return self.exec(["lab", *(str(word) for word in words)], timeout_s=timeout_s)

    def write_files(self, disk: str, *, count: int = 4, kib: int = 64, seed: int = 1) -> None:
        """Make files `f<seed>-1`...; `guest_content.file_content` tells their bytes."""
        self.lab("write", disk, count, kib, seed)

    def rewrite_files(self, disk: str, *, count: int, seed: int) -> None:
        """New content into the first `count` listed files, in place."""
        self.lab("rewrite", disk, count, seed)

    def delete_files(self, disk: str, *, count: int) -> None:
        self.lab("delete", disk, count)

    def trim(self, disk: str) -> None:
        """Discard all free space of the disk's file system."""
        self.lab("trim", disk)

    def start_churn(self, disk: str, *, kib: int = 64, pause_s: float = 1) -> None:
        """Write, delete and trim for ever, until `stop_churn`."""
        self.lab("churn", disk, kib, pause_s)

    def stop_churn(self, disk: str) -> None:
        self.lab("calm", disk)

    def mount_disks(self) -> str:
        """Mount disks that came later; blank ones get a file system."""
        return self.lab("mount")

    def verify_files(self) -> str:
        """Check all listed files against the disk; raises `GuestFailed` if one is damaged."""
        return self.lab("verify", timeout_s=120)

    def freeze(self) -> int:
        """Freeze all file systems; how many."""
        frozen: int = self._domain().fsFreeze()
        return frozen

    def thaw(self) -> int:
        thawed: int = self._domain().fsThaw()
        return thawed

    def freeze_status(self) -> str:
        """`thawed` or `frozen`."""
        status: str = self.command("guest-fsfreeze-status")
        return status

    def hang_agent(self, seconds: float) -> None:
        """The agent stops listening (SIGSTOP) and goes on after a while with what queued up."""
        self.lab("hang-agent", seconds)
        time.sleep(0.4)

    def stop_agent(self, seconds: float) -> None:
        """The agent ends, and is started again after a while."""
        self.lab("stop-agent", seconds)
        time.sleep(0.4)

    def _wait_exit(self, pid: int, argv: Sequence[str], timeout_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while True:
            status: dict[str, Any] = self.command("guest-exec-status", {"pid": pid})
            if status["exited"]:
                return status
            if time.monotonic() > deadline:
                raise TimedOut(f"in the guest: {' '.join(argv)} took longer than {timeout_s:g} s")
            time.sleep(0.05)


def _text(data: str | None) -> str:
    return base64.b64decode(data).decode(errors="replace") if data else ""
