"""Points as plain QCOW2 files in a directory: any QEMU tool opens them.

``repository`` is the whole; ``opening`` makes and finds one; ``layout`` names its files.
"""
