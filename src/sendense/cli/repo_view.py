"""A repository as a whole, as JSON and as text."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from sendense import clock
from sendense.cli import text
from sendense.cli.output import pairs
from sendense.repository.protocol import RepositoryInfo
from sendense.units import format_size
from sendense.workflows.repository_facts import DedupFacts, RepositoryFacts


def info_document(info: RepositoryInfo) -> dict[str, Any]:
    """Give what every kind of repository tells as JSON."""
    return {
        "location": info.location,
        "kind": info.kind,
        "id": info.id,
        "created_at": clock.format_utc(info.created_at),
        "machines": info.machines,
        "points": info.points,
        "stored_bytes": info.stored_bytes,
        "free_bytes": info.free_bytes,
    }


def facts_document(facts: RepositoryFacts) -> dict[str, Any]:
    """Give a repository as JSON with all that is known of it."""
    return {
        **info_document(facts.info),
        "logical_bytes": facts.sizes.logical_bytes,
        "unique_bytes": facts.sizes.unique_bytes,
        "dedup": _dedup_document(facts.dedup) if facts.dedup else None,
    }


def _dedup_document(facts: DedupFacts) -> dict[str, Any]:
    return {
        "fingerprint": facts.fingerprint,
        "epoch": facts.epoch,
        "passphrases": facts.passphrases,
        "recovery_keys": facts.recovery_keys,
        "unreadable_slots": facts.unreadable_slots,
        "compression_level": facts.compression_level,
        "object_lock": facts.object_lock,
        "last_check": clock.format_utc(facts.last_check) if facts.last_check else None,
        "at_work": [lease.described() for lease in facts.at_work],
    }


def facts_pairs(facts: RepositoryFacts) -> Text:
    """Describe a repository for people."""
    info, sizes = facts.info, facts.sizes
    rows = [
        ("location", info.location),
        ("kind", info.kind),
        ("id", info.id),
        ("made", text.when(info.created_at)),
        ("machines", str(info.machines)),
        ("points", str(info.points)),
        ("logical", format_size(sizes.logical_bytes)),
        ("unique", format_size(sizes.unique_bytes)),
        ("stored", format_size(info.stored_bytes)),
        ("free", text.bytes_or_none(info.free_bytes)),
    ]
    return pairs(rows + (_dedup_rows(facts.dedup) if facts.dedup else []))


def _dedup_rows(facts: DedupFacts) -> list[tuple[str, str]]:
    level = facts.compression_level
    return [
        ("compression", f"zstd, level {level}" if level is not None else "none"),
        ("keys", _keys(facts)),
        ("fingerprint", facts.fingerprint),
        ("object lock", text.yes(facts.object_lock)),
        ("last check", text.when(facts.last_check) if facts.last_check else "never"),
        ("at work", "\n".join(lease.described() for lease in facts.at_work) or "nobody"),
    ]


def _keys(facts: DedupFacts) -> str:
    words = [
        text.counted(facts.passphrases, "passphrase"),
        text.counted(facts.recovery_keys, "recovery key"),
    ]
    if facts.unreadable_slots:
        words.append(f"{facts.unreadable_slots} that cannot be read")
    return f"{', '.join(words)}; epoch {facts.epoch}"
