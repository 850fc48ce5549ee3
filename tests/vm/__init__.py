"""Whole backups and restores of real virtual machines."""
