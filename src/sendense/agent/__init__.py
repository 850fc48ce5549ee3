"""The agent: the daemon on a KVM host. It acts on tickets alone, and knows no repository."""
