"""Bytes through NBD: what is stored of a disk, read in order, at a bounded cost.

Read ``source`` (a disk offered for reading), ``extents`` (which ranges of it are
stored), ``reader`` (those ranges as chunks, in order), ``copy`` (all of it into a
sink).  ``link`` and ``pipeline`` are the only modules that talk to libnbd; they
serve the writing of :mod:`sendense.targets` as well.  Nothing here knows a
repository or libvirt.
"""
