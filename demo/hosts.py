"""The hosts of a story, and what is said while they come up: the first time takes minutes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from sendense_lab.cluster import roots
from sendense_lab.cluster.cluster import Cluster, cluster

RELEASE = "bookworm"
SAY_EVERY_S = 15


@contextmanager
def hosts(console: Console) -> Iterator[Cluster]:
    """Two whole KVM hosts in containers, with shared storage, until the end of the block."""
    console.print("Two KVM hosts come up, as containers with systemd, sshd and libvirtd.")
    if not any(roots.cache_dir().glob(f"{RELEASE}-*")):
        console.print(
            f"The first time on a machine, their system (Debian {RELEASE}) is downloaded and built"
            f" in {roots.cache_dir()}: one to three minutes. Later it takes seconds."
        )
    up = threading.Event()
    ticker = threading.Thread(target=_tick, args=(console, up), daemon=True)
    ticker.start()
    try:
        with cluster({"kvm1": RELEASE, "kvm2": RELEASE}, name="demo") as lab:
            up.set()
            yield lab
    finally:
        up.set()
        ticker.join()


def _tick(console: Console, up: threading.Event) -> None:
    began = time.monotonic()
    while not up.wait(SAY_EVERY_S):
        console.print(f"  ... {time.monotonic() - began:.0f} s", style="dim")
