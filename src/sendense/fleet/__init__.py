"""Calling agents: their tunnels, their gateway, and the deployment to hosts."""
