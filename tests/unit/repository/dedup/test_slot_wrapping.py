"""Many threads of one process may open a repository at the same time."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import threading
from sendense.model.secret import Secret
from sendense.repository.dedup.slot_wrapping import (
    Argon2, unwrap_with_passphrase, wrap_with_passphrase,
)
setting = Argon2(memory_kib=1024, passes=2, lanes=4)
secret, salt, nonce = Secret("a passphrase"), bytes(16), bytes(12)
wrapped = wrap_with_passphrase(b"ring", secret, setting, salt=salt, nonce=nonce, bound=b"")
found = []

def work():
    for _ in range(25):
        found.append(unwrap_with_passphrase(
            wrapped, secret, setting, salt=salt, nonce=nonce, bound=b""))

threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert found == [b"ring"] * 200
"""


def test_threads_that_derive_keys_do_not_wait_for_each_other_for_ever():
    # A process of its own: threads that hang could not be ended.
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60, env=os.environ)
