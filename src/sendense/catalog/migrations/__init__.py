"""The steps by which a catalogue comes to the tables of this version, in ``versions``."""
