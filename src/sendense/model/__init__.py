"""The words of the domain: frozen values and pure decisions, no I/O.

Everything here can be built, compared and tested without a host, a disk or a
clock.  Read ``machine`` and ``point`` for the nouns, ``decision`` for how each
disk of a capture is read and why, ``extents`` for what is read, ``retention``,
``hold`` and ``forecast`` for what is kept, ``restoring`` for where a restored disk goes.
"""
