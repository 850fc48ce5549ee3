"""Where a restored disk goes.

Each target is a :class:`~sendense.targets.target.Target`: ``newfile`` makes raw
and QCOW2 files, ``blockdevice`` fills a device, ``nbd`` writes into the image of
a stopped machine through a ``qemu-nbd`` child (``qemunbd``).  ``staging`` keeps
half-made files under names that nobody takes for a disk.  ``domainxml`` shapes
the machine around restored disks.
"""
