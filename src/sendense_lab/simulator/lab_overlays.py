"""VM snapshots without memory: overlays on all disks of a machine that stay until they are merged.

The file that an overlay froze is its snapshot; all that came later is in the overlay. To delete the
snapshot is to put both together in the frozen file, so a volume's path changes when it is taken and
again when the newest is deleted. Which files a snapshot is made of, CloudStack's database knows;
here it is kept by volume.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import libvirt

from sendense_lab import volume_changes
from sendense_lab.cloud_vm import CloudVm
from sendense_lab.commands import run, wait_until
from sendense_lab.errors import LabError
from sendense_lab.pool import ImageFormat, Volume
from sendense_lab.simulator.lab_disks import target, target_of

MERGE_TIMEOUT_S = 60


@dataclass(frozen=True)
class Layer:
    """What one snapshot did to one volume."""

    frozen: Path
    format: ImageFormat
    overlay: Path


class Overlays:
    """All VM snapshots without memory of a cloud. `vm` is none for a machine that is off."""

    def __init__(self) -> None:
        self._layers: dict[str, dict[str, Layer]] = {}
        self._lock = threading.Lock()

    def take(self, name: str, vm: CloudVm | None, volumes: Mapping[int, Volume]) -> dict[int, str]:
        """New files on top of all disks, in one moment; gives their names."""
        made = {
            device: Layer(volume.path, volume.format, volume.path.with_name(str(uuid.uuid4())))
            for device, volume in volumes.items()
        }
        if vm is None:
            for layer in made.values():
                create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", layer.format]
                run([*create, "-b", str(layer.frozen), str(layer.overlay)])
        else:
            overlays = {target_of(vm, device): layer.overlay for device, layer in made.items()}
            volume_changes.snapshot_together(vm.domain, overlays)
            for device, layer in made.items():
                _goes_on_in(vm, device, layer.overlay, "qcow2")
        with self._lock:
            for device, layer in made.items():
                self._layers.setdefault(volumes[device].id, {})[name] = layer
        return {device: layer.overlay.name for device, layer in made.items()}

    def merge(self, name: str, vm: CloudVm | None, volumes: Mapping[int, Volume]) -> dict[int, str]:
        """Put what a snapshot froze together with what came later; gives the files' names then."""
        paths = {}
        for device, volume in volumes.items():
            with self._lock:
                layers = self._layers.get(volume.id, {})
                layer = layers.get(name)
            if layer is None:
                paths[device] = volume.path.name
                continue
            newest = layer.overlay == volume.path
            if vm is None:
                self._merge_stopped(layer, layers)
            elif newest:
                volume_changes.commit(vm.domain, target_of(vm, device), layer.frozen)
                _goes_on_in(vm, device, layer.frozen, layer.format)
            else:
                _merge_below(vm.domain, target_of(vm, device), layer)
            layer.overlay.unlink()
            self._forget(layers, name)
            paths[device] = layer.frozen.name if newest else volume.path.name
        return paths

    def drop(self, path: Path) -> set[Path]:
        """Forget the snapshots of a volume that is deleted; gives the files that were theirs."""
        with self._lock:
            for volume, layers in self._layers.items():
                overlays = {layer.overlay for layer in layers.values()}
                if path in overlays:
                    del self._layers[volume]
                    return overlays | {layer.frozen for layer in layers.values()}
        return set()

    @staticmethod
    def _merge_stopped(layer: Layer, layers: Mapping[str, Layer]) -> None:
        run(["qemu-img", "commit", "-q", "-f", "qcow2", "-d", layer.overlay])
        for other in layers.values():
            if other.frozen == layer.overlay:
                backing = ["-b", str(layer.frozen), "-F", layer.format]
                run(["qemu-img", "rebase", "-u", "-f", "qcow2", *backing, str(other.overlay)])

    def _forget(self, layers: dict[str, Layer], name: str) -> None:
        with self._lock:
            gone = layers.pop(name)
            for other, layer in layers.items():
                if layer.frozen == gone.overlay:
                    layers[other] = replace(layer, frozen=gone.frozen, format=gone.format)


def _goes_on_in(vm: CloudVm, device: int, path: Path, format_: ImageFormat) -> None:
    name = target(device)
    vm.give_disks({**vm.disks, name: replace(vm.disks[name], path=path, format=format_)})


def _merge_below(domain: libvirt.virDomain, target: str, layer: Layer) -> None:
    """Where the overlay is not the file that QEMU writes to."""
    domain.blockCommit(target, str(layer.frozen), str(layer.overlay), 0, 0)
    wait_until(
        lambda: not domain.blockJobInfo(target), f"the merge of {target}", timeout_s=MERGE_TIMEOUT_S
    )
    if str(layer.overlay) in domain.XMLDesc():
        raise LabError(f"{target} still needs {layer.overlay}")
