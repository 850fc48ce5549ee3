"""The lab itself, on the real thing: what tests stand on has to be proved first."""
