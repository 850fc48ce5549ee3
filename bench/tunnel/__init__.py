"""How fast is a disk read through the tunnel, and what does that take of a host?

Everything runs on this machine: qemu-nbd, the gate and the tunnels of a host (in a process of
their own, ``host``), the gateway, and our reader, which throws away what it reads.  The peer is
nbdcopy through the same kind of tunnel: as many ssh clients to the same gateway, leading straight
to qemu-nbd.  One nbdcopy takes one address, so with several tunnels each has its own nbdcopy, which
reads its share of the disk from a qemu-nbd of its own.
"""
