"""Points deduplicated, compressed and encrypted, in any store of objects.

``docs/format.md`` is the format, and the place to begin.  ``repository`` is the whole;
``format`` holds the constants; ``keys`` and ``sealing`` the secrets; ``packs``,
``nodes`` and ``index_objects`` the bytes of each object.
"""
