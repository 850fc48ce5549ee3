"""The machine around restored disks: the point's domain XML, made ready to be started.

What a point holds is most often the XML of a *running* domain.  What libvirt
assigned for that one run (ids, aliases, labels, ports, device nodes, generated
socket paths) is taken out, because it belongs to the old process and some of it
makes a second machine fail to start.  What the operator configured (addresses,
tuning, models) stays, so that the guest finds the hardware it knows.

A machine under a new name is a copy: it gets a UUID of its own, as libvirt takes
no two names for one UUID, and drops paths that its original may have open.
"""

from __future__ import annotations

import uuid as uuids
import xml.etree.ElementTree as ET
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sendense.capture.domainxml import parse_document
from sendense.errors import Rejected

ET.register_namespace("qemu", "http://libvirt.org/schemas/domain/qemu/1.0")

_GENERATED_INTERFACES = ("vnet", "macvtap", "macvlan")
_DATA_DEVICES = ("disk", "lun")


@dataclass(frozen=True)
class RestoredDisk:
    """Where a disk of the domain is now."""

    path: str
    format: str
    block: bool = False
    """Whether ``path`` is a block device."""


@dataclass(frozen=True)
class Identity:
    """Who the machine is after the restore; by default who it was."""

    name: str | None = None
    """A new name makes it a copy, with a UUID of its own."""
    uuid: str | None = None
    new_macs: bool = False
    """A copy beside its original on one network needs other MAC addresses."""

    def __post_init__(self) -> None:
        """Refuse a name that libvirt would refuse, when all has been restored."""
        if self.name is not None and (not self.name.strip() or {"/", "\n"} & set(self.name)):
            raise Rejected(f"{self.name!r} is no name for a machine", hint="leave out '/'")


@dataclass(frozen=True)
class ShapedDomain:
    """XML that libvirt can define or create, and what about it a person should know."""

    xml: str
    name: str
    uuid: str
    notes: tuple[str, ...]


def shape_domain(
    xml: str,
    disks: Mapping[str, RestoredDisk],
    *,
    identity: Identity | None = None,
    nvram: str | None = None,
) -> ShapedDomain:
    """Shape the domain of a point around its restored disks, which are named by target.

    ``nvram`` is the restored UEFI variable store, if there is one.
    """
    identity = identity or Identity()
    root = parse_document(xml)
    if root.tag != "domain":
        raise Rejected(f"the point's domain.xml holds a <{root.tag}>, not a <domain>")
    notes: list[str] = []
    copied = identity.name is not None and identity.name != root.findtext("name")
    _drop_runtime(root, copied=copied)
    _name(root, identity, copied=copied, notes=notes)
    _place_disks(root, disks, notes)
    _place_nvram(root, nvram, copied=copied, notes=notes)
    if identity.new_macs:
        _drop_macs(root)
    if root.find("devices/tpm/backend[@type='emulator']") is not None:
        notes.append("its emulated TPM starts empty: the state of a TPM is not in a point")
    ET.indent(root)
    return ShapedDomain(
        xml=ET.tostring(root, encoding="unicode") + "\n",
        name=root.findtext("name") or "",
        uuid=root.findtext("uuid") or "",
        notes=tuple(notes),
    )


def _name(root: ET.Element, identity: Identity, *, copied: bool, notes: list[str]) -> None:
    if identity.name is not None:
        _child(root, "name").text = identity.name
    new_uuid = identity.uuid or (str(uuids.uuid4()) if copied else None)
    if new_uuid is not None:
        _child(root, "uuid").text = new_uuid
        # libvirt refuses a domain whose SMBIOS tables tell another UUID; CloudStack writes them.
        for entry in root.findall("sysinfo/system/entry[@name='uuid']"):
            entry.text = new_uuid
    generation = root.find("genid")
    if generation is not None:
        # Tells the guest that it went back in time; an empty element gets a fresh value.
        generation.text = None
        notes.append("the guest gets a new generation id, as it went back in time")


def _drop_runtime(root: ET.Element, *, copied: bool) -> None:
    """Take out what libvirt assigned for the run that the XML was taken from."""
    root.attrib.pop("id", None)
    _drop(root, "seclabel", lambda item: item.get("type", "dynamic") == "dynamic")
    devices = _child(root, "devices")
    for device in devices:
        # Aliases of the operator's own begin with "ua-"; the others are numbered per run.
        _drop(device, "alias", lambda item: not item.get("name", "").startswith("ua-"))
        if device.tag in {"serial", "console", "channel", "parallel"}:
            _drop_character_runtime(device, copied=copied)
    for graphics in devices.findall("graphics[@autoport='yes']"):
        for name in ("port", "tlsPort", "websocket"):
            graphics.attrib.pop(name, None)
    for interface in devices.findall("interface"):
        _drop(interface, "target", _is_generated_interface)
        source = interface.find("source")
        if source is not None and source.get("network"):
            for name in ("portid", "bridge"):
                source.attrib.pop(name, None)


def _is_generated_interface(target: ET.Element) -> bool:
    return target.get("dev", "").startswith(_GENERATED_INTERFACES)


def _drop_character_runtime(device: ET.Element, *, copied: bool) -> None:
    device.attrib.pop("tty", None)
    for target in device.findall("target"):
        target.attrib.pop("state", None)
    kind = device.get("type")

    def assigned(source: ET.Element) -> bool:
        path = source.get("path", "")
        # libvirt's own places contain the id of the run; two machines cannot share any.
        return kind == "pty" or (kind == "unix" and (copied or "/domain-" in path))

    _drop(device, "source", assigned)


def _place_disks(root: ET.Element, disks: Mapping[str, RestoredDisk], notes: list[str]) -> None:
    devices = _child(root, "devices")
    placed = set()
    for element in devices.findall("disk"):
        target = element.find("target")
        name = "" if target is None else target.get("dev", "")
        if element.get("device", "disk") not in _DATA_DEVICES:
            _drop_layers(element)
        elif name in disks:
            _place_disk(element, disks[name])
            placed.add(name)
        else:
            devices.remove(element)
            notes.append(f"disk {name} is left out: it was not restored")
    missing = sorted(set(disks) - placed)
    if missing:
        raise Rejected(f"the point's domain.xml has no disk {', '.join(missing)}")


def _place_disk(element: ET.Element, disk: RestoredDisk) -> None:
    _drop_layers(element)
    for tag in ("source", "auth", "encryption"):
        # What the capture read was decrypted by QEMU; the restored file holds it plainly.
        _drop(element, tag)
    element.set("type", "block" if disk.block else "file")
    if element.get("device") == "lun":
        # A file or a restored device takes no SCSI commands of its own.
        element.set("device", "disk")
    driver = element.find("driver")
    if driver is None:
        driver = ET.Element("driver", {"name": "qemu"})
        element.insert(0, driver)
    driver.set("type", disk.format)
    source = ET.Element("source", {"dev" if disk.block else "file": disk.path})
    element.insert(list(element).index(driver) + 1, source)


def _drop_layers(element: ET.Element) -> None:
    for tag in ("backingStore", "mirror", "privateData"):
        _drop(element, tag)
    source = element.find("source")
    if source is not None:
        source.attrib.pop("index", None)


def _place_nvram(root: ET.Element, nvram: str | None, *, copied: bool, notes: list[str]) -> None:
    element = root.find("os/nvram")
    if element is None:
        return
    if nvram is None and not copied:
        return
    for child in list(element):
        element.remove(child)
    element.attrib.pop("type", None)
    element.text = nvram
    if nvram is None:
        # The path was the original's. Without one libvirt makes a new file from the template.
        notes.append("its UEFI variables start from the template: the point holds none")
        if not element.get("template"):
            _drop(_child(root, "os"), "nvram")


def _drop_macs(root: ET.Element) -> None:
    for interface in _child(root, "devices").findall("interface"):
        _drop(interface, "mac")


def _child(parent: ET.Element, tag: str) -> ET.Element:
    found = parent.find(tag)
    return ET.SubElement(parent, tag) if found is None else found


def _drop(parent: ET.Element, tag: str, choose: Callable[[ET.Element], bool] | None = None) -> None:
    """Remove the children with a tag, or those of them that ``choose`` names."""
    for item in parent.findall(tag):
        if choose is None or choose(item):
            parent.remove(item)
