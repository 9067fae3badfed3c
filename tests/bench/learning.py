"""What is learned after training: `llmhub bench learning`, in this process over simulated years and months.

Drift: a year of daily and weekly seasons with a slow swing of the level over the year, looked at once a day by the
monitor, with models fitted anew each week as the hub does, on 28 days up to now and, as the job does on its own, on the
first four fifths of 28; how often it fires without a reason, how soon after planted drifts of four kinds and
after smaller ones, and what it sees of a second drift when training time held the first. Feedback: months with planted
faults and disturbances that nobody wants to hear of, day by day, with no verdict on any alarm, and with one on each,
by the rule of before and by that of the hub (`tests/bench/verdicts.py`). Everything is drawn from published seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.anomaly.fleet import Fleet
from models.anomaly.series import Matrix
from tests.bench.ingest import machine
from tests.bench.seasons import DAY, fitted, series_of, world
from tests.bench.verdicts import figures as figures_of_feedback
from tests.bench.verdicts import kinds, plain

# What moves latency, and by how much; the first of each kind is what is reported, the others say where it ends.
DRIFTS: Final = {"level": (0.5, 0.15, 0.1), "spread": (0.4, 0.2), "vanishes": (1.0,), "slope": (0.1, 0.05, 0.03)}
# Days from a step of latency in training time to the end of it.
STEPS_BEFORE: Final = (3, 10, 20)


def drifted(rows: Matrix, kind: str, *, day: int, size: float) -> Matrix:
    """One day of rows, so many days after a drift of latency, or of the time to the first token, began."""
    moved = rows.copy()
    if kind == "level":
        moved[:, 2] += size
    elif kind == "spread":
        moved[:, 2] += np.random.default_rng(day).normal(0.0, size, (rows.shape[0],)).astype(np.float32)
    elif kind == "vanishes":
        moved[:, 3] = np.nan
    else:
        moved[:, 2] += size * day
    return moved


def drift_year(seed: int, *, trained_days: int = 28, held_back: float = 0.0) -> dict[str, Any]:
    """Days on which the monitor fires: of a year without drift, and after each planted one.

    Args:
        trained_days: up to the day of the fit; held_back: share at their end that nothing is fitted on.
    """
    days = 4 * 7 + 365
    whole = world(days, seed=seed)
    fired: list[int] = []
    delays: dict[str, list[int]] = {f"{kind} {size}": [] for kind, sizes in DRIFTS.items() for size in sizes}
    again: dict[str, list[int]] = {f"step {before} days before": [] for before in STEPS_BEFORE}
    known: Fleet | None = None
    for day in range(28, days):
        first, rows = day - trained_days, int(trained_days * DAY * (1 - held_back))
        told = whole[first * DAY : first * DAY + rows]
        if (day - 28) % 7 == 0:
            known = fitted(told, first)
        assert known is not None
        if _fires(known, [_day(whole, day - 1), _day(whole, day)], day):
            fired.append(day)
        if (day - 28) % 28 == 0:
            # The model of that day goes on being asked, as it would be until it is trained again.
            for kind, sizes in DRIFTS.items():
                for size in sizes:
                    after = [drifted(_day(whole, day + at), kind, day=at + 1, size=size) for at in range(7)]
                    delays[f"{kind} {size}"].append(_delay(known, [_day(whole, day - 1), *after], day))
            for before in STEPS_BEFORE if trained_days >= 28 else ():
                stepped, moved = told.copy(), whole[(day - 1) * DAY : (day + 7) * DAY].copy()
                stepped[-before * DAY :, 2] += 0.5
                moved[:, 2] += 0.5
                after = [drifted(_day(moved, at + 1), "level", day=at + 1, size=0.5) for at in range(7)]
                again[f"step {before} days before"].append(
                    _delay(fitted(stepped, first), [_day(moved, 0), *after], day)
                )
    return {
        "days": days - 28,
        "fired_without_drift": len(fired),
        "found": {name: f"{sum(one >= 0 for one in found)}/{len(found)}" for name, found in delays.items()},
        "median_days_later": {
            name: float(np.median([one for one in found if one >= 0])) if max(found) >= 0 else None
            for name, found in delays.items()
        },
        "found_again": {name: f"{sum(one >= 0 for one in found)}/{len(found)}" for name, found in again.items()},
    }


def _delay(known: Fleet, days_of: Sequence[Matrix], day: int) -> int:
    """Days from the begin of a drift to the day on which it is told, of seven; -1 = it is not."""
    return next((at for at in range(7) if _fires(known, days_of[at : at + 2], day + at)), -1)


def _day(whole: Matrix, day: int) -> Matrix:
    return whole[day * DAY : (day + 1) * DAY] if (day + 1) * DAY <= len(whole) else whole[-DAY:]


def _fires(known: Fleet, days: Sequence[Matrix], day: int) -> bool:
    """Whether the monitor fires that day, which looks at the day before it too."""
    two = [
        known.reference.compare([known.units.residual_series(series_of(rows, day - 1 + at), "e")])
        for at, rows in enumerate(days)
    ]
    return bool(two[1].lasting(two[0]).drifted)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="llmhub bench learning", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument("--drift-alone", action="store_true", help="no feedback")
    alone.add_argument("--feedback-alone", action="store_true", help="no drift")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    figures: dict[str, Any] = {"machine": machine()}
    if not options.feedback_alone:
        figures["drift"] = [drift_year(seed) for seed in seeds]
        figures["drift_as_the_job_trains"] = [drift_year(seed, trained_days=28, held_back=0.2) for seed in seeds]
    if not options.drift_alone:
        # Of each seed of drifts four of feedback.
        replays = range(4 * seeds.start, 4 * seeds.stop)
        figures["feedback"] = {make.__name__: figures_of_feedback(make, replays) for make in (plain, kinds)}
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
