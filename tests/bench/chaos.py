"""Faults at random over a real hub, each followed by a full account: `llmhub bench chaos --faults 200 --seed 1`.

Starts a hub of its own on free ports. Prints how many faults of each kind happened, what did not hold, and the times to
the first acknowledgement and to a settled ledger. Exits 1 where something did not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.journeys.chaos import is_sound, run


def main(arguments: Sequence[str]) -> dict[str, Any]:
    """Figures of the run; times in seconds."""
    parser = argparse.ArgumentParser(prog="llmhub bench chaos", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no fault later than this")
    parser.add_argument("--kinds", help="instead of drawing: kinds of faults in order, with commas between")
    parser.add_argument("--data", help="not used: the run sends events of its own")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        kinds = chosen.kinds.split(",") if chosen.kinds else chosen.faults
        figures = run(Path(folder), kinds, chosen.seed, seconds=chosen.seconds) | {"cores": os.cpu_count()}
    text = json.dumps(figures, indent=2)
    print(text)
    if chosen.json:
        chosen.json.write_text(text + "\n")
    if not is_sound(figures):
        sys.exit(1)
    return figures


if __name__ == "__main__":
    main(sys.argv[1:])
