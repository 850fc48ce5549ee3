"""Sendense: backup and replication for Apache CloudStack on KVM.

``model`` holds the words of the domain, ``capture`` talks to libvirt,
``transfer`` moves bytes, ``repository`` keeps recovery points, ``targets``
takes restored disks, ``workflows`` joins them into use cases, and ``cli`` is
the way in.  Imports point down that list only; see ``pyproject.toml``.
"""

__version__ = "0.1.0"
