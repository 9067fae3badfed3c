"""The interpreter of a process that serves: how its threads take turns, and how often its collector looks."""

from __future__ import annotations

import gc
import sys
from typing import Final

# Python's own, 5 ms, would be waited for at each hop between an event loop and a thread that works for it.
_SWITCH_INTERVAL_S: Final = 0.0005
# Containers made and not yet freed, until the youngest are looked at; and looks at one age until the next one's. A
# request of some hundred lists met Python's own 700 again and again, and left no cycle: a tenth of a door's time.
_YOUNG, _LOOKS = 20_000, 10


def share() -> None:
    """Threads hand the interpreter to one another at once."""
    sys.setswitchinterval(_SWITCH_INTERVAL_S)


def settle() -> None:
    """Once a process is ready: what is here by now stays, and the collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _LOOKS, _LOOKS)
