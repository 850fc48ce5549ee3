"""Tests on whole hosts: installed agents, deployment, and what happens between hosts."""
