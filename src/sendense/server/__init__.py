"""The control plane as one process: its settings, and what it starts and stops."""
