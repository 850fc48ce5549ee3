"""What the control plane remembers, in a database."""
