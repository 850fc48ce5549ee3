"""Objects at rest: bytes under names, in a directory or a bucket.

``store`` says what any store promises.  A store knows nothing of what the bytes mean.
"""
