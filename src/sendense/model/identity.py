"""Ids that the control plane gives out."""

from __future__ import annotations

import secrets
from datetime import datetime


def new_id(moment: datetime) -> str:
    """Make an id: the milliseconds of ``moment``, then 48 random bits, in hex.

    They sort by age, which keeps what is new together in an index.
    """
    return f"{int(moment.timestamp() * 1000):012x}{secrets.token_hex(6)}"
