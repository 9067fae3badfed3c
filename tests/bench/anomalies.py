"""How well detectors find labelled anomalies: VUS-PR, and alarms at a threshold from training time alone.

Reads SMD and ASD (and any folder of the same layout, see `anomaly_sets`) and the series of NAB under `--data`; a set
that is absent is left out. One configuration for all of them. Every row is told for the offline score, which looks
around itself, and for the trailing one, which is what is served.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from models.anomaly import detector, fusion, gnn_metric, pair
from models.anomaly.calibrated import fitting_rows
from models.anomaly.evaluation import Meeting, auc_pr, events_of, meet, vus_pr
from models.anomaly.scaling import Scaling
from models.anomaly.scores import Fitted, Scores
from models.anomaly.series import Floats, Series
from models.anomaly.tails import Tail
from models.anomaly.threshold import DAY_S, MERGE_S, Alarm, Threshold, calibrate, decide, follow
from tests.bench import anomaly_fleet, anomaly_nab, anomaly_sets, anomaly_traces
from tests.bench.anomaly_sets import Case
from tests.bench.fleet_faults import FLEETS
from tests.bench.trace_faults import WORLDS

SETS: Final = ("smd_prefix", "asd", "smd", "nab", *WORLDS, "nezha", *FLEETS)
# Asked of the threshold in training time: what the goal allows. Servers drift, so that in the test it may become more.
BUDGET_PER_DAY: Final = 1.0
# Asked of a threshold that follows: all alarms of a day, the true ones too.
FOLLOWED_PER_DAY: Final = 1.25
Scorer = Callable[[Series, bool], Scores]


@dataclass(frozen=True, slots=True)
class Result:
    """One detector on one entity with one seed; of both ways of scoring, but thresholds that move of the trailing one.

    Attributes:
        alarmed: share of the rows that are in an alarm at the threshold that follows.
    """

    vus_pr: tuple[float, float]
    auc_pr: tuple[float, float]
    offline: Meeting
    fixed: Meeting
    controlled: Meeting
    followed: Meeting
    alarmed: float
    days: float


def scorers(case: Case, seed: int, *, networks: bool) -> Iterator[tuple[str, Scorer]]:
    """Every row of the table, fitted on the training rows of the entity; without networks those that train none."""
    scaling = Scaling.fit([case.train])
    source = np.random.default_rng(seed)
    # Surprisals as all others are: an alarm ends below a share of its threshold, which is a share of that.
    yield "random", lambda series, trailing: _plain(-np.log(source.random(series.rows)), series)
    tail = Tail.fit(_length(scaling, case.train)[fitting_rows(case.train) :])
    yield "L2", lambda series, trailing: _plain(tail.surprise(_length(scaling, series)), series)
    heads: dict[str, Fitted] = {}
    for kind in ("seasonal", "pca", "patch_bank", "forecast", *(("autoencoder", "gnn_metric") if networks else ())):
        heads[kind] = _Kept(detector.fit(kind, [case.train], seed=seed))
        yield kind, _score_of(heads[kind])
    if networks:
        yield "gnn_metric, no edges", _score_of(gnn_metric.fit([case.train], seed=seed, edges=False))
    for kind, module in {"pair": pair, **({"fusion": fusion} if networks else {})}.items():
        # Fitting the heads again would take longer.
        yield kind, _score_of(module.fuse_heads({name: heads[name] for name in module.HEADS}, [case.train]))


def _length(scaling: Scaling, series: Series) -> Floats:
    return np.asarray(np.sqrt(np.nansum(scaling.apply(series).values.astype(float) ** 2, axis=1)))


def _plain(score: Floats, series: Series) -> Scores:
    """Without any feature that made it."""
    return Scores(score, np.zeros((score.size, 0)))


class _Kept:
    """A `Fitted` that scores a series once, for its own row and for those it is a part of."""

    def __init__(self, fitted: Fitted) -> None:
        self._fitted = fitted
        # With the series, so that no other can take its place in memory.
        self._known: dict[tuple[int, bool], tuple[Series, Scores]] = {}

    def score(self, series: Series, *, trailing: bool) -> Scores:
        key = (id(series), trailing)
        if key not in self._known:
            self._known[key] = (series, self._fitted.score(series, trailing=trailing))
        return self._known[key][1]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fitted, name)


def _score_of(one: Fitted) -> Scorer:
    def score(series: Series, trailing: bool) -> Scores:
        return one.score(series, trailing=trailing)

    return score


def judge(case: Case, score: Scorer) -> Result:
    """Areas over all test rows; alarms at the threshold that keeps the budget in the last rows of training."""
    step_s = case.test.step_s
    both = [score(case.test, way).score for way in (False, True)]
    past = [score(case.train, way).score[fitting_rows(case.train) :] for way in (False, True)]
    thresholds = [calibrate(one, step_s=step_s, budget_per_day=BUDGET_PER_DAY) for one in past]
    events = events_of(case.labels)
    gap = max(1, MERGE_S // step_s)
    offline, fixed = (
        meet(_rows(decide(one, threshold)), events, gap=gap) for one, threshold in zip(both, thresholds, strict=True)
    )
    following = follow(past[1], both[1], step_s=step_s, budget_per_day=FOLLOWED_PER_DAY)
    return Result(
        vus_pr=tuple(vus_pr(one, case.labels, window=case.window) for one in both),  # type: ignore[arg-type]
        auc_pr=tuple(auc_pr(one, case.labels) for one in both),  # type: ignore[arg-type]
        offline=offline,
        fixed=fixed,
        controlled=meet(_controlled(both[1], thresholds[1]), events, gap=gap),
        followed=meet(_rows(following), events, gap=gap),
        alarmed=sum(one.end - one.start for one in following) / case.test.rows,
        days=case.days,
    )


def _controlled(scores: Floats, threshold: Threshold) -> list[tuple[int, int]]:
    """Alarms with a threshold that follows the budget from day to day, without any label."""
    day = DAY_S // threshold.step_s
    found = []
    for start in range(0, scores.size, day):
        today = [(start + one.start, start + one.end) for one in decide(scores[start : start + day], threshold)]
        threshold = threshold.after_day(len(today))
        found += today
    return found


def _rows(alarms: Sequence[Alarm]) -> list[tuple[int, int]]:
    return [(one.start, one.end) for one in alarms]


def table(results: dict[str, dict[int, list[Result]]]) -> dict[str, dict[str, Any]]:
    """Each detector: means over entities, then mean and standard deviation over seeds."""
    lines: dict[str, dict[str, Any]] = {}
    for name, by_seed in results.items():
        columns: dict[str, list[float]] = {}
        for entities in by_seed.values():
            for place, way in enumerate(("offline", "trailing")):
                for area in ("vus_pr", "auc_pr"):
                    mean = float(np.mean([getattr(one, area)[place] for one in entities]))
                    columns.setdefault(f"{area}_{way}", []).append(mean)
            columns.setdefault("alarmed_followed", []).append(float(np.mean([one.alarmed for one in entities])))
            for way in ("offline", "fixed", "controlled", "followed"):
                for column, value in _alarms([getattr(one, way) for one in entities], entities).items():
                    columns.setdefault(f"{column}_{way}", []).append(value)
        lines[name] = {column: round(float(np.mean(values)), 3) for column, values in columns.items()}
        for column in ("vus_pr_offline", "recall_offline", "precision_offline"):
            lines[name][f"{column}_sd"] = round(float(np.std(columns[column])), 3)
        lines[name] |= {"seeds": len(by_seed), "entities": len(next(iter(by_seed.values())))}
    return lines


def _alarms(meetings: list[Meeting], entities: list[Result]) -> dict[str, float]:
    events, found = (sum(getattr(one, name) for one in meetings) for name in ("events", "found"))
    alarms, false = (sum(getattr(one, name) for one in meetings) for name in ("alarms", "false"))
    delays = [delay for one in meetings for delay in one.delays]
    return {
        "recall": found / max(events, 1),
        "precision": (alarms - false) / max(alarms, 1),
        "false_per_day": false / sum(one.days for one in entities),
        "delay_rows_p50": float(np.median(delays)) if delays else float("nan"),
    }


def measure(
    folder: Path, name: str, seeds: list[int], told: Callable[[dict[str, Any]], None], *, networks: bool
) -> None:
    """All entities of a set; `told` gets the table after each entity, so that an early end loses little."""
    results: dict[str, dict[int, list[Result]]] = {}
    entities: dict[str, dict[str, list[float]]] = {}
    for seed in seeds:
        for case in anomaly_sets.read(folder, name):
            for row, score in scorers(case, seed, networks=networks):
                one = judge(case, score)
                results.setdefault(row, {}).setdefault(seed, []).append(one)
                entities.setdefault(case.entity, {}).setdefault(row, []).append(round(one.vus_pr[0], 3))
            told({"detectors": table(results), "vus_pr_offline_by_entity": entities})


def show(name: str, lines: dict[str, dict[str, Any]]) -> str:
    """The table as text."""
    shown = (
        "vus_pr_offline", "vus_pr_offline_sd", "vus_pr_trailing", "auc_pr_offline", "auc_pr_trailing",
        "recall_offline", "precision_offline", "false_per_day_offline",
        "recall_fixed", "precision_fixed", "false_per_day_fixed",
        "recall_controlled", "precision_controlled", "false_per_day_controlled",
        "recall_followed", "precision_followed", "false_per_day_followed", "alarmed_followed",
    )  # fmt: skip
    text = [f"{name:22}" + " ".join(f"{column:>11.11}" for column in shown)]
    text += [f"{one:22}" + " ".join(f"{line[column]:11.3f}" for column in shown) for one, line in lines.items()]
    return "\n".join(text)


def main(arguments: list[str]) -> dict[str, Any]:
    """Run the benchmark and print its tables and JSON; see `--help`."""
    parser = argparse.ArgumentParser(prog="llmhub bench anomalies", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of labelled series")
    parser.add_argument("--sets", default=",".join(SETS), help="which, by comma; another name is a folder of its own")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--no-networks", action="store_true", help="leave out the rows of series that train a network")
    parser.add_argument("--json", type=Path, help="also write the figures to this file, after each entity")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    figures: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores", "budget": BUDGET_PER_DAY}
    begun_s = time.process_time()

    def keep(name: str, part: dict[str, Any]) -> None:
        if part:
            figures[name] = part
            figures["cpu_s"] = round(time.process_time() - begun_s)
        if options.json:
            options.json.write_text(json.dumps(figures, indent=2))

    for name in options.sets.split(","):
        if name == "nab":
            keep(name, anomaly_nab.measure(options.data))
            continue
        seeds = list(range(options.first_seed, options.first_seed + (1 if options.quick else options.seeds)))
        if name == "nezha":
            anomaly_traces.nezha(options.data, partial(keep, name))
            continue
        if name in WORLDS or name in FLEETS:
            judged = anomaly_traces.generated if name in WORLDS else anomaly_fleet.measure
            judged(name, seeds, partial(keep, name))
            print((anomaly_traces if name in WORLDS else anomaly_fleet).show(figures[name]), flush=True)
            continue
        measure(options.data, name, seeds, partial(keep, name), networks=not options.no_networks)
        if name in figures:
            print(show(name, figures[name]["detectors"]), flush=True)
    print(json.dumps(figures, indent=2))
    return figures


if __name__ == "__main__":
    main(sys.argv[1:])
