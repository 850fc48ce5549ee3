"""``sendense host pause``, ``resume`` and ``release``: before a host is updated, or taken away."""

from __future__ import annotations

from typing import Annotated

import typer

from sendense.cli.points import confirm
from sendense.cli.remote.frame import Remote, Yes, asks

Host = Annotated[str, typer.Argument(metavar="HOST", help="Name or id.", show_default=False)]


def register_work(app: typer.Typer) -> None:
    """Put the commands into their group."""
    app.command("pause")(pause_host)
    app.command("resume")(resume_host)
    app.command("release")(release_host)


@asks
def pause_host(
    remote: Remote,
    host: Host,
    *,
    minutes: Annotated[
        int, typer.Option(metavar="N", min=1, help="It ends by itself after so many.")
    ] = 120,
) -> None:
    """Give a host no new captures and restores for a while; what runs goes on."""
    found = remote.names.host(host)
    paused = remote.client.post(f"/hosts/{found['id']}/pause", {"minutes": minutes})
    remote.show({"host": paused}, f"{paused['name']} gets no new work for {minutes} minutes")


@asks
def resume_host(remote: Remote, host: Host) -> None:
    """Give a host that was paused work again."""
    found = remote.names.host(host)
    resumed = remote.client.post(f"/hosts/{found['id']}/resume")
    remote.show({"host": resumed}, f"{resumed['name']} gets work again")


@asks
def release_host(remote: Remote, host: Host, *, yes: Yes = False) -> None:
    """Take our bitmaps off all machines of a host; their next backups are fulls."""
    found = remote.names.host(host)
    if not yes:
        confirm(f"Take our bitmaps off all machines of {found['name']}?", remote.run)
    left = remote.client.post(f"/hosts/{found['id']}/release")["left"]
    lines = [f"stays for now: {each}" for each in left]
    remote.show({"left": left}, *(lines or [f"nothing of ours is on the machines of {host}"]))
