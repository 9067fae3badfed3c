"""A process that serves: what stands is left alone, and what a request leaves behind still goes."""

from __future__ import annotations

import subprocess
import sys

SETTLED = """
import gc, weakref
from cluster import interpreter

class Ring:
    def __init__(self):
        self.me = self

interpreter.share()
assert sys.getswitchinterval() < 0.001
stands = [[] for _ in range(1_000)]
interpreter.settle()
assert gc.get_freeze_count() > 1_000
ring = weakref.ref(Ring())
kept = []
for _ in range(1_000_000):
    kept.append([])
    if ring() is None:
        break
assert ring() is None, "a ring of objects was never freed"
assert len(kept) > 5_000, "the collector looked again and again"
"""


def test_what_stands_is_left_alone_and_rings_still_go() -> None:
    done = subprocess.run([sys.executable, "-c", "import sys" + SETTLED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
