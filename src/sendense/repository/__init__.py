"""Where recovery points live.

``protocol`` says what any repository promises; ``chain`` keeps points as plain
QCOW2 files; ``opening`` finds the right one for a URL.
"""
