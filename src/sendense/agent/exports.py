"""The exports of one work at the gate: each with a secret of its own, gone when the work ends."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Optional

from sendense.agent.gate import Share
from sendense.agent.pacing import Bucket
from sendense.agent.work import Means
from sendense.model.agent_status import GateExport
from sendense.model.export import DiskExport
from sendense.model.secret import Secret
from sendense.model.ticket import Limits

log = logging.getLogger(__name__)

_SECRET_BYTES = 32


class OpenExports:
    """Exports at the gate, from :meth:`open` until the ``with`` block ends."""

    def __init__(self, work: str, means: Means, limits: Limits) -> None:
        """Open nothing yet."""
        self._work = work
        self._gate = means.gate
        self._local = means.settings().transport == "local"
        self._limits = limits
        self._names: list[str] = []

    def __enter__(self) -> OpenExports:
        """Do nothing."""
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        """Close what is open."""
        self.close()

    def open(self, exports: Iterable[DiskExport]) -> tuple[GateExport, ...]:
        """Open a place at the gate for each."""
        limits = self._limits
        # The ticket limits all of them together.
        share = Share(Bucket(limits.bytes_per_s), limits.connections)
        return tuple(self._open(item, share) for item in exports)

    def close(self) -> None:
        """Close all, ending their connections; may be repeated."""
        while self._names:
            name = self._names.pop()
            try:
                self._gate.close(name)
            except Exception:
                # The others must be closed, and the guest must not wait for a gate.
                log.exception("closing the gate of %s failed", name)

    def _open(self, export: DiskExport, share: Share) -> GateExport:
        name = f"{self._work}-{export.target}"
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        port = None
        if not self._local:
            port = self._gate.open(
                name,
                Secret(secret),
                export.socket,
                bytes_per_s=self._limits.bytes_per_s,
                connections=self._limits.connections,
                share=share,
            )
            self._names.append(name)
        return GateExport(
            target=export.target,
            name=name,
            secret=secret,
            export=export.name,
            size=export.size,
            dirty_context=export.dirty_context,
            port=port,
            socket=export.socket if self._local else None,
        )


def inside_pool(path: Path, pools: Iterable[Path]) -> bool:
    """Tell whether a file lies in one of the pools, once all symbolic links are followed."""
    found = path.resolve()
    return any(pool.resolve() in found.parents for pool in pools)
