"""The recovery sheet: one page to print, for whoever has to open the repository one day.

It is written for somebody who has never seen this program, in ten years, without the people who
made the backups.  At most 80 columns, and nothing that only a screen can show.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sendense import __version__
from sendense.model.secret import Secret
from sendense.repository.dedup.recovery import BEGIN, END, RecoveryKey

_WIDTH: Final = 78
_LABEL: Final = 14


@dataclass(frozen=True)
class SheetFacts:
    """What the sheet says beside the key."""

    repository_id: str
    location: str
    """The URL, without secrets."""
    fingerprint: str
    """Of the key ring: it shows that a repository is the one of this sheet."""
    made_at: datetime
    label: str = ""


def recovery_sheet(key: RecoveryKey, facts: SheetFacts) -> Secret:
    """Give the text to print.  It holds the private key: it is as secret as the backups."""
    lines = ["SENDENSE RECOVERY SHEET", "=======================", ""]
    lines += _paragraph(_WARNING)
    lines += list(_table(key, facts))
    lines += ["", f"    {BEGIN}"]
    lines += [f"    {row}" for row in key.to_text().reveal().decode().splitlines()]
    lines += [f"    {END}", ""]
    for text in _STEPS:
        lines += _paragraph(text)
    return Secret("\n".join(lines).rstrip() + "\n")


def _table(key: RecoveryKey, facts: SheetFacts) -> Iterator[str]:
    made = facts.made_at.strftime("%Y-%m-%d %H:%M UTC")
    rows = [
        ("Repository", facts.repository_id),
        ("Location", facts.location),
        ("Fingerprint", facts.fingerprint),
        ("Name of key", facts.label),
        ("Public key", key.public.hex()),
        ("Made", f"{made}, by sendense {__version__}"),
    ]
    for label, value in rows:
        shown = "".join(letter if letter.isprintable() else "?" for letter in value)
        pieces = textwrap.wrap(shown, _WIDTH - _LABEL, break_on_hyphens=False)
        for number, piece in enumerate(pieces):
            yield f"{label if number == 0 else '':{_LABEL}}{piece}"


def _paragraph(text: str) -> list[str]:
    """Give a paragraph in lines, or a command as it is."""
    if text.startswith("    "):
        return [text, ""]
    return [*textwrap.wrap(text, _WIDTH, break_on_hyphens=False), ""]


_WARNING: Final = (
    "Print this page, keep the paper locked away, and delete the file. Whoever has this key and"
    " can read the storage can read every backup in it. If all passphrases are lost, nothing else"
    " opens the repository: nobody can reset it, also not the makers of the program."
)

_STEPS: Final = (
    "WHAT THIS IS. The repository holds backups of virtual machines, encrypted, in a directory or"
    " in an object store (the location above). This key opens it in the place of a passphrase.",
    "1. Have the program 'sendense' (the version above or a later one) on a machine that can reach"
    " the storage, with whatever credentials the storage itself asks for.",
    "2. Type the 15 groups between the two marks into a text file that only you can read. Capitals"
    " and spaces do not matter; O is read as 0, I and L as 1. A mistake is reported with the group"
    " it is in. A file with the text of this whole page does as well.",
    "3. Test it. This changes nothing. URL is the location above, FILE your text file. The"
    " repository and the fingerprint that it shows must be those above; if they are not, it is"
    " not your repository, and you must not store anything in it.",
    "    sendense repo info -r URL --recovery-key-file FILE",
    "4. Set a new passphrase, and use the repository with it from then on:",
    "    sendense repo key add-passphrase -r URL --recovery-key-file FILE",
    "5. Delete the text file, and put this page back. It stays valid, also when passphrases"
    " change.",
    "WITHOUT THE PROGRAM. The format is described in 'docs/format.md' of the program's source"
    " code. In short: drop the fifth character of each group; the 60 that are left are base 32 (0-9"
    " and A-Z without I, L, O, U), first bit first: a version byte (1), 32 bytes of an X25519"
    " private key, 4 bytes of a checksum, 4 zero bits. The objects 'keys/*' of the repository are"
    " JSON; the one with the public key above holds in 'wrapped' the repository's keys, encrypted"
    " by HPKE (RFC 9180).",
)
