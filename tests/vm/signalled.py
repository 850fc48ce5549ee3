"""The real command line, which sends itself signals at a named step; a program for the tests.

``python -m tests.vm.signalled STEP SIGNAL[,SIGNAL...] GAP WORDS...``: the first signal comes at
``STEP``, the others each ``GAP`` seconds later, while what the first made happen is under way.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from sendense import steps
from sendense.cli.main import main


def signal_at(step: str, numbers: list[int], gap_s: float) -> None:
    """Send the signals when the step is reached."""

    def more() -> None:
        for number in numbers[1:]:
            time.sleep(gap_s)
            os.kill(os.getpid(), number)

    def stop(reached: str) -> None:
        if reached == step:
            threading.Thread(target=more, daemon=True).start()
            os.kill(os.getpid(), numbers[0])

    steps.listen(stop)


if __name__ == "__main__":
    step, names, gap = sys.argv[1:4]
    signal_at(step, [int(signal.Signals[name]) for name in names.split(",")], float(gap))
    del sys.argv[1:4]
    main()
