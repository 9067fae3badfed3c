"""What is learned after training: `llmhub bench learning`, in this process over simulated years and months.

Drift: a year of daily and weekly seasons with a slow swing of the level over the year, looked at once a day by the
monitor, with models fitted anew each week as the hub does, on 28 days up to now and, as the job does on its own, on the
first four fifths of 28; how often it fires without a reason, how soon after planted drifts of four kinds and
after smaller ones, and what it sees of a second drift when training time held the first. Feedback: months with planted
faults and benign bursts, alarms day by day; the same month with every false alarm reported and with none. Everything is
drawn from published seeds.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.anomaly import detector, fleet
from models.anomaly.evaluation import meet
from models.anomaly.fleet import Fleet, Units
from models.anomaly.series import Floats, Matrix, Series
from models.anomaly.threshold import decide
from tests.bench.ingest import machine

STEP_S: Final = 300
DAY: Final = 86_400 // STEP_S
FEATURES: Final = ("requests_log", "error_share", "latency_log", "ttft_log", "tokens_log", "cost_log")
# What the mean of a feature moves with: load by time of day, by day of the week, common noise, own noise.
_DAILY: Final = np.array([0.9, 0.02, 0.25, 0.15, 0.05, 0.05])
_WEEKLY: Final = np.array([0.5, 0.01, 0.10, 0.05, 0.10, 0.10])
_COMMON: Final = np.array([0.10, 0.01, 0.08, 0.06, 0.03, 0.03])
_OWN: Final = np.array([0.08, 0.03, 0.10, 0.10, 0.06, 0.06])
_LEVEL: Final = np.array([5.0, 0.1, 7.5, 6.0, 7.0, 8.0])


def world(days: int, *, seed: int, first_day: int = 0) -> Matrix:
    """(days * DAY, f) usual rows: seasons of day, week and year, a common load with memory, own noise."""
    source = np.random.default_rng((seed, first_day))
    at = (first_day * DAY + np.arange(days * DAY)) / DAY
    load = np.zeros(at.size)
    kicks = source.standard_normal(at.size)
    for row in range(1, at.size):
        load[row] = 0.9 * load[row - 1] + 0.44 * kicks[row]
    daily = np.sin(2 * np.pi * (at - 0.3))
    weekly = np.where(at.astype(int) % 7 < 5, 0.4, -1.0)
    yearly = 0.25 * np.sin(2 * np.pi * at / 365)
    means = _LEVEL + np.outer(daily, _DAILY) + np.outer(weekly, _WEEKLY) + np.outer(load, _COMMON)
    means[:, 0] += yearly
    return (means + _OWN * source.standard_normal(means.shape)).astype(np.float32)


def series_of(values: Matrix, first_day: int) -> Series:
    """Rows from a day on."""
    return Series(values, FEATURES, STEP_S, first_day * 86_400 * 1_000_000)


def fitted(values: Matrix, first_day: int) -> Fleet:
    """The cheapest fleet of one entity."""
    series = {"e": series_of(values, first_day)}
    units = Units.fit(series, seasons=True)
    head = detector.fit("pca", list(fleet.residuals_of(units, series).values()), seed=1)
    return fleet.assemble(units, head, series)


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


@dataclass(frozen=True, slots=True)
class Month:
    """Rows with events: real faults, and bursts that nobody wants to hear of."""

    values: Matrix
    faults: list[tuple[int, int]]


def month(days: int, *, seed: int, first_day: int) -> Month:
    """A fault about each second day, and a benign burst of load twice a day."""
    values = world(days, seed=seed, first_day=first_day)
    source = np.random.default_rng((seed, 7, first_day))
    faults = []
    for day in range(days):
        for _ in range(2):
            at = day * DAY + int(source.integers(0, DAY - 12))
            values[at : at + int(source.integers(3, 8)), 0] += float(source.uniform(0.4, 0.9))
        if day % 2:
            at = day * DAY + int(source.integers(0, DAY - 20))
            stop, size = at + int(source.integers(6, 16)), float(source.choice((2.0, 3.0, 5.0)))
            features = source.permutation(len(FEATURES))[:3]
            values[at:stop, features] += size * (_OWN + _COMMON)[features] * source.choice((-1, 1), 3)
            faults.append((at, stop))
    return Month(values, faults)


def replayed(seed: int, *, feedback: bool, days: int = 56) -> tuple[float, float, float]:
    """(false alarms a day, recall, factor at the end) over the second half of two months, day by day."""
    known = fitted(world(28, seed=seed), 0)
    told = month(days, seed=seed, first_day=28)
    scores: Floats = known.score(series_of(told.values, 28), "e").score
    threshold = known.threshold("e")
    false = found = events = 0
    verdicts: list[tuple[bool, float]] = []
    for day in range(days):
        rows = scores[day * DAY : (day + 1) * DAY]
        mine = [(at - day * DAY, stop - day * DAY) for at, stop in told.faults if at // DAY == day]
        alarms = [(one.start, one.end) for one in decide(rows, threshold)]
        met = meet(alarms, mine, gap=3)
        if day >= days // 2:
            false, found, events = false + met.false, found + met.found, events + met.events
        for one in decide(rows, threshold) if feedback else ():
            is_true = any(one.start < stop + 3 and one.end > at for at, stop in mine)
            verdicts.append((is_true, one.score))
        threshold = known.threshold("e").judged(verdicts)
    return false / (days - days // 2), found / events, threshold.factor


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="llmhub bench learning", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--drift-alone", action="store_true", help="no feedback")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    figures: dict[str, Any] = {
        "machine": machine(),
        "drift": [drift_year(seed) for seed in seeds],
        "drift_as_the_job_trains": [drift_year(seed, trained_days=28, held_back=0.2) for seed in seeds],
    }
    # Of each seed of drifts four of feedback.
    replays = () if options.drift_alone else range(4 * seeds.start, 4 * seeds.stop)
    for name, feedback in (("without_feedback", False), ("with_feedback", True)) if replays else ():
        several = np.array([replayed(seed, feedback=feedback) for seed in replays])
        figures[name] = dict(
            zip(("false_alarms_per_day", "recall", "factor"), several.mean(axis=0).tolist(), strict=True)
        )
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
