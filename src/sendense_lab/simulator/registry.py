"""Loads the modules that register commands."""

from __future__ import annotations

import importlib

MODULES = (
    "commands_about",
    "commands_hosts",
    "commands_import",
    "commands_instances",
    "commands_lists",
    "commands_power",
    "commands_roles",
    "commands_setup",
    "commands_snapshots",
    "commands_tags",
    "commands_tenants",
    "commands_volumes",
    "commands_webhooks",
)


def load() -> None:
    """Have all commands registered."""
    for name in MODULES:
        importlib.import_module(f"sendense_lab.simulator.{name}")
