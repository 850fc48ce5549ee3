"""The XML of a domain as CloudStack's agent writes it for a KVM host.

What matters to a backup tool is kept: a transient domain named `i-<account>-<number>-VM`, the
disks' paths and serials, the guest agent's channel, an empty CD drive (letter c of IDE, which no
data disk may take), NVRAM for UEFI. Left out: the display, and a real network.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sendense_lab.pool import Volume

Boot = Literal["guest", "none"]
OVMF_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
OVMF_VARS = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")


@dataclass(frozen=True)
class MachineShape:
    """What does not change during the life of a VM."""

    name: str
    uuid: str
    mac: str
    boot: Boot
    uefi: bool
    memory_mib: int
    accelerator: str
    cache_mode: str
    console: Path
    nvram: Path
    kernel: Path | None = None
    initrd: Path | None = None
    options: tuple[str, ...] = field(default=())
    more_macs: tuple[str, ...] = ()
    """Of further network cards."""


# maximum: offers the random number instruction; without it the guest's kernel waits 4 s for
# entropy before mke2fs may go on (measured). libvirt knows that mode since 7.1.
CPU = "<cpu mode='maximum'/>"
OLD_CPU = (
    "<cpu mode='custom' match='exact' check='none'><model fallback='allow'>qemu64</model>"
    "<feature policy='require' name='rdrand'/></cpu>"
)
CPU_MAXIMUM_SINCE = 7_001_000


def domain_xml(
    shape: MachineShape, disks: dict[str, Volume], *, libvirt_version: int = CPU_MAXIMUM_SINCE
) -> str:
    """The definition for `createXML`; `disks` maps targets (vda...) to volumes."""
    machine = "q35" if shape.uefi else "pc"
    drives = "".join(disk_xml(shape, target, volume) for target, volume in disks.items())
    cpu = CPU if libvirt_version >= CPU_MAXIMUM_SINCE else OLD_CPU
    return f"""<domain type='{shape.accelerator}'>
  <name>{shape.name}</name>
  <uuid>{shape.uuid}</uuid>
  <description>Debian GNU/Linux 12 (64-bit)</description>
  <memory unit='MiB'>{shape.memory_mib}</memory>
  <vcpu>1</vcpu>
  <sysinfo type='smbios'><system>
    <entry name='manufacturer'>Apache Software Foundation</entry>
    <entry name='product'>CloudStack KVM Hypervisor</entry>
    <entry name='serial'>{shape.uuid}</entry>
    <entry name='uuid'>{shape.uuid}</entry>
  </system></sysinfo>
  <os>
    <type arch='x86_64' machine='{machine}'>hvm</type>
    {_firmware(shape)}{_kernel(shape)}<smbios mode='sysinfo'/>
  </os>
  <features><acpi/><apic/></features>
  {cpu}
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    {drives}{_cdrom(shape)}{_spare_ports(shape)}
    {_interfaces(shape)}
    <serial type='file'><source path='{shape.console}' append='on'/><target port='0'/></serial>
    <channel type='unix'>
      <source mode='bind' path='/var/lib/libvirt/qemu/{shape.name}.org.qemu.guest_agent.0'/>
      <target type='virtio' name='org.qemu.guest_agent.0'/>
    </channel>
    <memballoon model='none'/>
  </devices>
</domain>"""


def disk_xml(shape: MachineShape, target: str, volume: Volume) -> str:
    """One disk, for the definition and for hot-attach."""
    return f"""<disk type='file' device='disk'>
      <driver name='qemu' type='{volume.format}' cache='{shape.cache_mode}' discard='unmap'/>
      <source file='{volume.path}'/>
      <target dev='{target}' bus='virtio'/>
      <serial>{volume.serial}</serial>
    </disk>
    """


def _firmware(shape: MachineShape) -> str:
    if not shape.uefi:
        return ""
    # Production has /var/lib/libvirt/qemu/nvram/<uuid>.fd; that path would mean another file
    # outside of the hypervisor's mount namespace, where the tools under test run.
    return (
        f"<loader readonly='yes' type='pflash'>{OVMF_CODE}</loader>"
        f"<nvram template='{OVMF_VARS}'>{shape.nvram}</nvram>"
    )


def _kernel(shape: MachineShape) -> str:
    if shape.boot == "none" or shape.kernel is None:
        return "<boot dev='cdrom'/><boot dev='hd'/>"
    options = " ".join(("console=ttyS0", "quiet", "panic=-1", *shape.options))
    return (
        f"<kernel>{shape.kernel}</kernel><initrd>{shape.initrd}</initrd>"
        f"<cmdline>{options}</cmdline>"
    )


def _interfaces(shape: MachineShape) -> str:
    return "".join(
        f"<interface type='user'><mac address='{mac}'/><model type='virtio'/>"
        "<rom enabled='no'/></interface>"
        for mac in (shape.mac, *shape.more_macs)
    )


def _cdrom(shape: MachineShape) -> str:
    target = "dev='sdc' bus='sata'" if shape.uefi else "dev='hdc' bus='ide'"
    return (
        "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>"
        f"<target {target}/><readonly/></disk>"
    )


def _spare_ports(shape: MachineShape) -> str:
    # PCI Express can only hot-plug into a free root port.
    if not shape.uefi:
        return ""
    first = "<controller type='pci' index='0' model='pcie-root'/>"
    return first + "<controller type='pci' model='pcie-root-port'/>" * 10
