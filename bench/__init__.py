"""The bench: how fast, how small and how gentle, beside the peers, on real machines.

``make bench`` runs it.  ``stage`` sets the machines up, ``peers`` are the tools we
are held against, ``timing`` and ``memory`` measure, ``truth`` holds every result
against the source, ``figures`` is what comes out.  The other modules are the
measurements, one question each.  ``docs/performance.md`` explains the method.
"""
