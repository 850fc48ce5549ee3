"""Checking and repairing a whole repository; ``docs/check-and-repair.md`` is for operators.

``facade`` is the way in.  A check goes from the small to the large: ``small_objects`` and
``fresh_index`` read what is sealed, ``pack_listing`` holds the packs against the index,
``pack_reading`` and ``pack_proof`` read packs through, and ``tree_walk`` goes over all
trees once, to say which points are touched by what was found.  ``notes`` and ``checked_packs``
decide what is to be remembered of it.  A repair is a value first (``repair_plan``), and then
carried out (``repairing``, ``salvage``).
"""
