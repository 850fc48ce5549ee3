"""Serving: the disks of a point as NBD exports, for as long as somebody wants to look at them.

The server is nbdkit with its Python plugin.  :mod:`~sendense.serving.mounting` starts one
and ends it; :mod:`~sendense.serving.plugin` is what runs inside; what both know of each other
is in :mod:`~sendense.serving.handover` and in the folder of the mount
(:mod:`~sendense.serving.mounts`).

The repository is only read.  Who wants to write gets a throw-away overlay.
"""
