"""When a process has ended: not with its first thread, whose end alone makes it look so."""

from __future__ import annotations

import subprocess
import sys

from infra.runtime import processes

# The first thread ends; the second one lives until standard input is closed.
_LEADERLESS = """
import ctypes, os, threading
threading.Thread(target=lambda: (os.write(1, b"x"), os.read(0, 1), os._exit(0))).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_lasts_as_long_as_its_last_thread() -> None:
    child = subprocess.Popen([sys.executable, "-c", _LEADERLESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None and child.stdout is not None
    assert child.stdout.read(1) == b"x"
    assert processes.wait_until(lambda: _state(child.pid) == "Z", deadline_s=30.0)
    process = processes.look_up(child.pid)
    assert process is not None
    assert processes.wait_gone([process], deadline_s=0.05) == [process]
    child.stdin.close()
    assert processes.wait_gone([process], deadline_s=30.0) == []
    child.wait()
    child.stdout.close()


def _state(pid: int) -> str:
    process = processes.look_up(pid)
    return process.state if process else ""
