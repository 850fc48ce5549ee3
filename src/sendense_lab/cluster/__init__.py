"""Whole KVM hosts on one machine: systemd, sshd and libvirtd of three Debian releases.

    from sendense_lab.cluster.cluster import cluster

    with cluster(hosts={"kvm1": "bookworm", "kvm2": "bookworm"}) as c:
        vm = c.create_vm(c.hosts["kvm1"])
        c.migrate(vm, c.hosts["kvm2"])
        c.hosts["kvm1"].run(["systemctl", "status"])
        c.hosts["kvm1"].kill()

Each host is a container with an init, a network and a process tree of its own, and runs what its
release ships. What is not there: a kernel of its own, resource controllers of control groups
where the machine has version 1 (a unit's MemoryMax is accepted and not enforced), the internet.

What to import: `cluster`, `Cluster` and `DEFAULT_HOSTS` of `sendense_lab.cluster.cluster`, and
`ClusterHost` of `sendense_lab.cluster.host`. Nothing is imported here: the lab's journal ends
clusters too, by `teardown`.
"""
