"""The bench of the dedup repository: how fast, how small, and how it grows.

``make bench ARGS="--only dedup"`` runs it; ``bench.dedup.sections`` lists the parts.  No virtual
machine takes part: disks are raw files behind ``qemu-nbd``, which is what reads the image of a
machine too.  What is ours runs in a process of its own (``worker``), as in the product, so
its memory is its own; ``jobs`` starts it, ``stage`` holds what all share.

``copying`` is speed beside nbdcopy, ``remote`` is S3, ``growth`` is what a change and a clone
cost in space, ``beside`` is restic and borg, ``scale`` is what becomes of it all as a repository
grows.
"""
