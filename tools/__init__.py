"""Programs that keep the repository in order; run by ``make``."""
