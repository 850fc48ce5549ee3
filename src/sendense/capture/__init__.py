"""Reading machines on one KVM host: the only place that talks to libvirt.

``connection`` reaches libvirt, ``domains`` and ``domainxml`` say what runs,
``survey`` looks at a machine's disks and bitmaps without changing anything,
``online`` and ``offline`` turn a capture plan into NBD exports of one frozen
moment, ``freeze`` and ``watchdog`` guard the guest meanwhile, ``journal`` and
``reaper`` clean up after a crash, ``probe`` examines the host.
"""
