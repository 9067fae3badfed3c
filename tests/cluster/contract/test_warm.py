"""What `warm` calls is all that decoders need compiled: nobody's first body takes seconds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cluster.contract.warm import warm

ROOT = Path(__file__).parents[3]

# In a process of its own: in this one other tests have called everything already.
COMPARED = """
import gc
from numba.core.dispatcher import Dispatcher
from cluster.contract.warm import warm
from tests.journeys import fuzz

def known():
    found = [one for one in gc.get_objects() if isinstance(one, Dispatcher)]
    return {(one.py_func.__qualname__, str(signature)) for one in found for signature in one.signatures}

warm()
before = known()
assert before
for name in fuzz.DECODERS:
    fuzz.run(name, seed=1, numbers=range(40))
print(sorted(known() - before))
"""


def test_decoders_compile_nothing_after_they_were_warmed() -> None:
    warm()
    command = [sys.executable, "-c", COMPARED]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
