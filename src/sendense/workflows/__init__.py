"""The use cases: read these to know the product.

Each module is one thing a person wants done, written as the order of its steps.
They bring ``capture``, ``transfer``, ``repository`` and ``targets`` together,
and know nothing of the command line or of HTTP.
"""
