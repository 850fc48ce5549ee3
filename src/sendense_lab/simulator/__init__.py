"""A CloudStack management server as clients see it, in front of machines that are real or on paper.

The API (`server`, `commands`) keeps what CloudStack's database keeps; what has to happen on a
host or in a pool is asked of `machines.Machines`. So the same API stands in front of the lab's KVM
hosts, and in front of ten thousand instances that exist as rows only.
"""

from sendense_lab.simulator.paper import PaperMachines
from sendense_lab.simulator.simulator import Keys, Simulator

__all__ = ["Keys", "PaperMachines", "Simulator"]
