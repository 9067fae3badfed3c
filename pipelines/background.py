"""Workers of a job, which serve no other: where both want the cores, the hub's doors, shards and questions go first."""

from __future__ import annotations

import os
from typing import Final

_NICE: Final = 10


def step_back() -> None:
    """Give this process and the threads it will start the nice value of work that nobody waits for."""
    os.setpriority(os.PRIO_PROCESS, 0, max(_NICE, os.getpriority(os.PRIO_PROCESS, 0)))
