"""Packing the guest's initial file system: a cpio archive made from a list of files.

Programs come from the host together with the libraries that `ldd` names, so the guest needs no
distribution image. The archive is not compressed: QEMU hands it over in one piece, while
unpacking it would cost the emulated processor seconds.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from sendense_lab.commands import run
from sendense_lab.errors import CommandFailed

FOLDERS = (
    "bin",
    "sbin",
    "lib/modules",
    "lib/lab",
    "proc",
    "sys",
    "dev",
    "tmp",
    "run",
    "data",
    "etc",
)


def copy_program(program: Path, into: Path, *, folder: str = "bin") -> None:
    """Put a program and its libraries below `into`, libraries at the path the loader looks at."""
    target = into / folder / program.name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(program, target)
    target.chmod(0o755)
    for library in libraries(program):
        place = into / library.relative_to("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            shutil.copy(library, place)


def libraries(program: Path) -> list[Path]:
    """The shared libraries of a program, the loader among them."""
    listing = run(["ldd", program])
    if "not found" in listing:
        raise CommandFailed(["ldd", str(program)], 1, listing)
    found = re.findall(r"(?:=> )?(/\S+) \(0x", listing)
    return [Path(name) for name in found]


def link_applets(busybox: Path, into: Path) -> None:
    """One symbolic link per busybox command, except where a real program is there already."""
    shutil.copy(busybox, into / "bin/busybox")
    (into / "bin/busybox").chmod(0o755)
    for applet in run([busybox, "--list"]).split():
        link = into / "bin" / applet
        if applet != "busybox" and not link.exists() and not (into / "sbin" / applet).exists():
            link.symlink_to("busybox")


def pack(tree: Path, archive: Path) -> None:
    """Write the tree as a `newc` cpio archive, owned by root."""
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))
    with archive.open("wb") as out:
        subprocess.run(
            ["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"],
            input="\n".join(names).encode(),
            stdout=out,
            cwd=tree,
            check=True,
        )
