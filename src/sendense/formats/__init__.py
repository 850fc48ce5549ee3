"""File formats, as bytes: what they mean, how they are written in one pass, how they are read.

Nothing here knows what a backup is.  ``qcow2`` owns the header of QEMU's image
format, ``qcow2_writer`` writes such an image while its data streams by,
``qcow2_reader`` reads the clusters of one image, ``blockmap`` is our own table
of block hashes.  Bytes that are not what they should be raise
:class:`~sendense.errors.Damaged`, whatever they are: a reader here may be given
anything.
"""
