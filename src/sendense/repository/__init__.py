"""Where recovery points live.

``protocol`` says what any repository promises.  ``chain`` keeps points as plain QCOW2
files; ``dedup`` keeps them deduplicated, compressed and encrypted in any object store.
``opening`` finds the right one for a URL.
"""
