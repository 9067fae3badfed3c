"""A second process that believes to be the region's committer: `python -m tests.journeys.chaos_committer DATA SECONDS`.

It commits seals of a journal of its own, and its upkeep rolls up and compacts beside the real one's. Prints how many
seals it committed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from uuid import uuid4

from actors.committer import Committer
from actors.intake import Seal
from cluster.clock import SystemClock
from cluster.errors import CommitLost
from cluster.settings import Settings


def main(data: Path, seconds: float) -> int:
    """Seals committed."""
    committer = Committer(
        Settings(data=data, commit_linger_s=0.0, rollover_s=1.0, compact_files=4, repeats_s=0.0), clock=SystemClock()
    )
    journal, sequence = f"second-{uuid4().hex[:16]}", 0
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        try:
            sequence = committer.commit(Seal(10_000, 1, journal, sequence + 1, (), {}))
        except CommitLost:
            # The other one was quicker five times in a row; a shard sends its seal again as well.
            sequence = committer.last_sequence(journal)
    committer.drain()
    return sequence


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), float(sys.argv[2])))
