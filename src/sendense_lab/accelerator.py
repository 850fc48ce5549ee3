"""Hardware virtualisation or emulation: decided by trying, not by looking.

There are machines (this project's among them) where /dev/kvm exists, the firmware runs and libvirt
offers KVM, and yet a Linux guest hangs with 100 % system time. So the real guest kernel is booted
once; the verdict holds until the machine is booted again.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from sendense_lab import host_config
from sendense_lab.errors import LabError
from sendense_lab.guest_image import GuestImage, cache_dir, guest_image, locked

TRIAL_S = 6
# Set to `kvm` or `qemu` (emulation) to decide without a trial.
OVERRIDE = "SENDENSE_LAB_ACCEL"
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def domain_type() -> str:
    """`kvm` where a guest really boots with it, else `qemu`."""
    forced = os.environ.get(OVERRIDE)
    if forced is not None:
        if forced not in ("kvm", "qemu"):
            raise LabError(f"{OVERRIDE} must be kvm or qemu, not {forced!r}")
        return forced
    if not host_config.kvm_open_to(host_config.qemu_user()):
        return "qemu"
    verdict = cache_dir() / f"accelerator-{BOOT_ID.read_text().strip()}"
    with locked(cache_dir() / "accelerator.lock"):
        if not verdict.exists():
            verdict.write_text("kvm" if boots_with_kvm(guest_image()) else "qemu")
    return verdict.read_text()


def boots_with_kvm(image: GuestImage) -> bool:
    """Whether the guest's kernel reaches user space in time."""
    argv = ["qemu-system-x86_64", "-accel", "kvm", "-m", "192", "-nodefaults", "-no-reboot"]
    argv += ["-display", "none", "-serial", "stdio", "-kernel", str(image.kernel)]
    argv += ["-initrd", str(image.initrd), "-append", "console=ttyS0 quiet panic=-1 lab.trial=1"]
    try:
        done = subprocess.run(
            argv, capture_output=True, timeout=TRIAL_S, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return b"LAB-TRIAL-OK" in done.stdout
