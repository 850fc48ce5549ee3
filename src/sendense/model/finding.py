"""What an examination of a host found, with the command that mends it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Optional


class Level(str, Enum):
    """How much a finding matters."""

    OK = "ok"
    """As it should be, or good to know."""
    WARNING = "warning"
    """Backups work, with less than they could have."""
    PROBLEM = "problem"
    """Backups fail, or harm is near."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """What was looked at, in one word that scripts may use: ``socket-dir``."""
    level: Level
    message: str
    fix: Optional[str] = None
    """The exact command that mends it, where there is one."""
