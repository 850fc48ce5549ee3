"""What storage and thieves do to objects: flip a bit, cut, extend, take away, exchange."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.dedup_site import Site
from tests.support.dict_store import DictStore

Spoil = Callable[[Site, DictStore, str], None]
"""Spoils an object."""

KINDS = {
    "header": "sendense-repository",
    "slot": "keys/",
    "data-pack": "packs/",
    "meta-pack": "packs/",
    "index": "index/",
    "point": "points/",
    "sequence": "sequences/",
    "lease": "leases/",
    "condemnation": "condemned/",
    "damage-note": "damage/",
    "hold": "holds/",
    "checked": "checked/",
}
_DATA, _META = 1, 2


def names_of(site: Site, kind: str) -> list[str]:
    """Give the objects of a kind, the largest first."""
    names = [name for name in site.objects if name.startswith(KINDS[kind])]
    if kind.endswith("pack"):
        wanted = _DATA if kind == "data-pack" else _META
        names = [name for name in names if site.objects[name][5] == wanted]
    return sorted(names, key=lambda name: (-len(site.objects[name]), name))


def flipped(share: float, bit: int = 0) -> Spoil:
    """Flip a bit of the byte at a share of the object's length; 1 is its last byte."""

    def spoil(site: Site, store: DictStore, name: str) -> None:
        content = bytearray(store.objects[name])
        content[min(int(share * len(content)), len(content) - 1)] ^= 1 << bit
        store.objects[name] = bytes(content)

    return spoil


def cut(keep: Callable[[int], int]) -> Spoil:
    """Keep so many bytes of so many."""

    def spoil(site: Site, store: DictStore, name: str) -> None:
        content = store.objects[name]
        store.objects[name] = content[: keep(len(content))]

    return spoil


def longer(site: Site, store: DictStore, name: str) -> None:
    """Append something."""
    store.objects[name] += b"garbage" * 20


def deleted(site: Site, store: DictStore, name: str) -> None:
    """Take it away."""
    store.delete([name])


def swapped(site: Site, store: DictStore, name: str) -> None:
    """Exchange it with another of its kind."""
    kind = next(kind for kind in KINDS if name in names_of(site, kind))
    others = [item for item in names_of(site, kind) if item != name]
    one, other = store.objects[name], store.objects[others[0]]
    store.objects[name], store.objects[others[0]] = other, one


def older(site: Site, store: DictStore, name: str) -> None:
    """Bring back what it was before it was written anew."""
    store.objects[name] = site.older[name]


SPOILS: dict[str, Spoil] = {
    "first-byte": flipped(0.0),
    "second-eighth": flipped(0.02, 3),
    "third": flipped(0.3, 6),
    "middle": flipped(0.5, 1),
    "two-thirds": flipped(0.66, 7),
    "near-end": flipped(0.93, 2),
    "last-byte": flipped(1.0),
    "empty": cut(lambda size: 0),
    "half": cut(lambda size: size // 2),
    "one-less": cut(lambda size: size - 1),
    "longer": longer,
    "deleted": deleted,
    "swapped": swapped,
    "older": older,
}


def possible(kind: str, spoil: str) -> bool:
    """Tell whether that can be done to such an object: leases alone are written anew."""
    if spoil == "older":
        return kind == "lease"
    return spoil != "swapped" or kind != "header"
