"""``sendense restore``: disks of a point to new files, to block devices, or in place."""

from __future__ import annotations

from collections.abc import Mapping

import typer

from sendense.cli import restore_options as given
from sendense.cli.options import command
from sendense.cli.restore_run import RestoreOrder, restore_point
from sendense.cli.run import Run
from sendense.errors import Rejected
from sendense.targets.domainxml import Identity


def register(app: typer.Typer) -> None:
    """Put the command into the program."""
    app.command("restore")(restore)


@command
def restore(
    run: Run,
    point: given.Point,
    *,
    at: given.At = None,
    output: given.Output = None,
    to: given.To = None,
    in_place: given.InPlace = False,
    xml: given.Xml = None,
    disk: given.Disk = None,
    exclude: given.Exclude = None,
    image_format: given.ImageFormat = None,
    name: given.Name = None,
    new_macs: given.NewMacs = False,
    start: given.Start = False,
    overwrite: given.Overwrite = False,
    allow_larger: given.AllowLarger = False,
    verify: given.Verify = False,
    bandwidth_limit: given.BandwidthLimit = None,
    yes: given.Yes = False,
    dry_run: given.DryRun = False,
) -> None:
    """Restore disks of a point; every byte is verified on its way."""
    if sum((output is not None, bool(to), in_place)) != 1:
        raise Rejected("say where to: --output DIR, or --to DISK=DEVICE, or --in-place")
    for_files = {
        "--format": image_format,
        "--overwrite": overwrite,
        "--name": name,
        "--new-macs": new_macs,
    }
    _refuse_without_effect(for_files, needs="--output", there=output is not None)
    _refuse_without_effect({"--xml": xml}, needs="--in-place", there=in_place)
    order = RestoreOrder(
        settings=run.settings_with(bandwidth_limit=bandwidth_limit),
        reference=point,
        at=at,
        folder=output,
        image_format=image_format.value if image_format else None,
        overwrite=overwrite,
        devices=_mapping(to or []),
        machine_xml=xml,
        allow_larger=allow_larger,
        include=tuple(disk or ()),
        exclude=tuple(exclude or ()),
        identity=Identity(name=name, new_macs=new_macs),
        start=start,
        read_back=verify,
        sure=yes,
        dry_run=dry_run,
    )
    restore_point(run, order)


def _refuse_without_effect(options: Mapping[str, object], *, needs: str, there: bool) -> None:
    """Refuse an option that would have no effect: whoever gave it meant something."""
    for option, value in options.items():
        if value and not there:
            raise Rejected(f"{option} goes with {needs} only")


def _mapping(pairs: list[str]) -> dict[str, str]:
    """Read ``vda=/dev/vg/lv`` pairs."""
    mapping: dict[str, str] = {}
    for pair in pairs:
        # A disk may be named by its path, and a path may hold "="; a device's name does not.
        disk, found, device = pair.rpartition("=")
        if not (found and disk and device):
            raise Rejected(f"{pair!r} is not DISK=DEVICE", hint="for example --to vda=/dev/vg0/web")
        if disk in mapping:
            raise Rejected(f"disk {disk} is given two devices")
        mapping[disk] = device
    return mapping
