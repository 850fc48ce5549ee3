"""Reads libvirt's domain XML: pure functions from text to values.

The XML of a *running* domain is richer than that of a stopped one: libvirt adds
the backing chain of each disk (``backingStore`` elements, closed by an empty
one) and numbers its images (``index``, as in ``vda[3]``).  A missing
``backingStore`` says "not looked at", an empty one says "no backing file": the
difference is kept as ``None`` against a chain of one.

Disks that are data are those with ``device='disk'`` or ``'lun'``; cdroms and
floppies are the machine's shape.  A source that is neither a file nor a block
device (RBD, iSCSI, a volume of a storage pool that was not resolved) has no
path on this host: it is listed all the same, as ``network``, by the name it has
where it lives.  A machine must not drop out of a list for an odd disk.

XML from a file or from the network is data of others: a document with a DOCTYPE
is refused, which rules out entities (billion laughs, local file reading).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Callable, Optional

from sendense.errors import Rejected
from sendense.model.machine import Disk, Machine, NetworkCard, PowerState, SourceKind

ResolveVolume = Callable[[str, str], Optional[tuple[SourceKind, str]]]
"""Gives kind and path of a volume by pool and volume name, where it can be told."""

_AGENT_CHANNEL = "org.qemu.guest_agent.0"

_UNITS = {
    **dict.fromkeys(("b", "bytes"), 1),
    **dict.fromkeys(("k", "KiB"), 1 << 10),
    **dict.fromkeys(("M", "MiB"), 1 << 20),
    **dict.fromkeys(("G", "GiB"), 1 << 30),
    **dict.fromkeys(("T", "TiB"), 1 << 40),
    **{"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12},
}


@dataclass(frozen=True)
class DomainDisk:
    """One hard disk of a domain, with what only the live XML knows."""

    disk: Disk
    chain: Optional[tuple[str, ...]]
    """The image and its backing files, top first; ``None`` where the XML does not say."""
    index: Optional[int]
    """libvirt's number of the top image, for ``vda[index]``."""
    alias: Optional[str]
    """QEMU's name of the device, ``virtio-disk0``."""


def parse_document(text: str) -> ET.Element:
    """Parse XML that others wrote; anything with a DOCTYPE is refused."""
    parser = ET.XMLParser(target=_WithoutDoctype())  # noqa: S314 - refuses what makes XML unsafe
    try:
        parser.feed(text)
        root = parser.close()
    except ET.ParseError as error:
        raise Rejected(f"this is not well-formed XML: {error}") from error
    if not isinstance(root, ET.Element):
        raise Rejected("this is not an XML document")
    return root


def parse_machine(
    text: str,
    *,
    power: PowerState,
    persistent: bool,
    resolve_volume: Optional[ResolveVolume] = None,
) -> Machine:
    """Read a machine out of its domain XML."""
    root = _domain(text)
    vcpu = root.find("vcpu")
    return Machine(
        uuid=(root.findtext("uuid") or "").strip(),
        name=(root.findtext("name") or "").strip(),
        power=power,
        persistent=persistent,
        disks=tuple(item.disk for item in _disks(root, resolve_volume)),
        vcpus=_vcpus(vcpu),
        memory_bytes=_memory(root.find("memory")),
        cards=tuple(_card(item) for item in root.findall("devices/interface")),
        nvram=_nvram(root.find("os/nvram")),
        agent_channel=_find_agent_channel(root) is not None,
        tpm=root.find("devices/tpm/backend[@type='emulator']") is not None,
    )


def parse_disks(
    text: str, *, resolve_volume: Optional[ResolveVolume] = None
) -> tuple[DomainDisk, ...]:
    """Read the hard disks with their chains, in the order of the XML."""
    return tuple(_disks(_domain(text), resolve_volume))


def agent_connected(text: str) -> Optional[bool]:
    """Tell whether the agent in the guest has its channel open; ``None`` without a channel.

    Only the live XML knows, and a connected agent may still hang.
    """
    target = _find_agent_channel(_domain(text))
    return None if target is None else target.get("state") == "connected"


class _WithoutDoctype(ET.TreeBuilder):
    """Builds the tree, and stops at a DOCTYPE: entities can only be declared there."""

    def doctype(self, name: str, pubid: Optional[str], system: Optional[str]) -> None:
        raise Rejected(
            f"the XML declares a DOCTYPE ({name}), which libvirt never writes",
            hint="use the output of 'virsh dumpxml'",
        )


def _domain(text: str) -> ET.Element:
    root = parse_document(text)
    if root.tag == "domstatus":
        # A file of /run/libvirt/qemu wraps the domain; people copy those as well.
        inner = root.find("domain")
        root = root if inner is None else inner
    if root.tag != "domain":
        raise Rejected(
            f"this is a <{root.tag}>, not a libvirt <domain>",
            hint="use the output of 'virsh dumpxml'",
        )
    return root


def _disks(root: ET.Element, resolve: Optional[ResolveVolume]) -> Iterator[DomainDisk]:
    for element in root.findall("devices/disk"):
        if element.get("device", "disk") not in ("disk", "lun"):
            continue
        source = element.find("source")
        target = element.find("target")
        if source is None or target is None or not source.attrib:
            continue  # an empty slot holds no data
        yield _disk(element, source, target, resolve)


def _disk(
    element: ET.Element, source: ET.Element, target: ET.Element, resolve: Optional[ResolveVolume]
) -> DomainDisk:
    kind, path = _locate(element.get("type", ""), source, resolve)
    driver = element.find("driver")
    alias = element.find("alias")
    index = source.get("index", "")
    return DomainDisk(
        disk=Disk(
            target=target.get("dev", ""),
            path=path,
            # libvirt's own default: it never looks into an image to find its format, because
            # a guest could write another format's header into its raw disk.
            format=driver.get("type", "raw") if driver is not None else "raw",
            kind=kind,
            serial=(element.findtext("serial") or "").strip() or None,
            bus=target.get("bus", "virtio"),
            read_only=element.find("readonly") is not None,
            shareable=element.find("shareable") is not None,
        ),
        chain=_chain(element, path, resolve),
        index=int(index) if index.isdigit() else None,
        alias=None if alias is None else alias.get("name"),
    )


def _locate(
    kind: str, source: ET.Element, resolve: Optional[ResolveVolume]
) -> tuple[SourceKind, str]:
    """Give where an image is: its kind, and its path or its name there."""
    if kind == "file":
        return SourceKind.FILE, source.get("file", "")
    if kind == "block":
        return SourceKind.BLOCK, source.get("dev", "")
    if kind == "volume":
        pool, volume = source.get("pool", ""), source.get("volume", "")
        found = resolve(pool, volume) if resolve is not None else None
        return found or (SourceKind.NETWORK, f"{pool}/{volume}")
    return SourceKind.NETWORK, _remote_name(kind, source)


def _remote_name(kind: str, source: ET.Element) -> str:
    name = source.get("name")
    if name:
        return name
    host = source.find("host")
    place = source.get("path") or source.get("dir") or source.get("dev")
    if place is None and host is not None:
        place = host.get("socket") or f"{host.get('name', '')}:{host.get('port', '')}"
    return f"{source.get('protocol') or kind}:{place or ''}"


def _chain(
    disk: ET.Element, path: str, resolve: Optional[ResolveVolume]
) -> Optional[tuple[str, ...]]:
    """Follow the ``backingStore`` elements; a chain that is not closed is not known."""
    paths = [path]
    layer = disk.find("backingStore")
    while layer is not None:
        source = layer.find("source")
        if source is None:
            return tuple(paths)
        paths.append(_locate(layer.get("type", ""), source, resolve)[1])
        layer = layer.find("backingStore")
    return None


def _vcpus(vcpu: Optional[ET.Element]) -> int:
    if vcpu is None:
        return 1
    return int(vcpu.get("current") or (vcpu.text or "1").strip())


def _memory(memory: Optional[ET.Element]) -> int:
    if memory is None:
        return 0
    unit = memory.get("unit", "KiB")
    if unit not in _UNITS:
        raise Rejected(f"the XML gives its memory in {unit!r}, which is no unit of libvirt")
    return int((memory.text or "0").strip()) * _UNITS[unit]


def _nvram(nvram: Optional[ET.Element]) -> Optional[str]:
    """Give the variable store's path: the element's text, or a ``source`` since libvirt 8.5."""
    if nvram is None:
        return None
    source = nvram.find("source")
    path = (nvram.text or "").strip() if source is None else source.get("file", "")
    return path or None


def _card(interface: ET.Element) -> NetworkCard:
    mac, model = interface.find("mac"), interface.find("model")
    source = interface.find("source")
    names = ("bridge", "network", "dev", "portgroup", "name")
    found = (source.get(name) for name in names) if source is not None else iter(())
    return NetworkCard(
        mac="" if mac is None else mac.get("address", ""),
        model="" if model is None else model.get("type", ""),
        source=next((name for name in found if name), interface.get("type", "")),
    )


def _find_agent_channel(root: ET.Element) -> Optional[ET.Element]:
    for channel in root.findall("devices/channel"):
        target = channel.find("target")
        if target is not None and target.get("name") == _AGENT_CHANNEL:
            return target
    return None
