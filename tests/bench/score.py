"""How fast windows are scored: `llmhub bench score`, in this process, and over HTTP where a hub runs.

In process, one thread a core, for every kind of detector: windows whose last row is scored, in batches, and rows of one
long series, where neighbouring windows share their work; for every kind of trace detector: traces, from spans as they
are stored. With HUB_URL and HUB_API_KEY also 50 clients over HTTP with `--detector`, which must have a champion: as
fast as they are answered, and at a steady pace. Also the steps of training in a second, one process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from models.anomaly import detector, fleet, trace_detector
from models.anomaly.autoencoder import recipe
from models.anomaly.detector import DETECTORS
from models.anomaly.features import FEATURES
from models.anomaly.fleet import Fleet, Units
from models.anomaly.series import Series
from models.anomaly.trace_detector import TRACE_DETECTORS
from models.anomaly.training import Trainer
from tests.bench import trace_faults
from tests.bench.ingest import machine
from tests.bench.score_load import load_of

ROWS: Final = 32
BATCH: Final = 4_096
TRACES_FIT: Final = 3_000
TRACES: Final = 4_000
_SECONDS: Final = 2.0


def series(rows: int, seed: int) -> Series:
    """As many features as the hub's, a day's season and noise."""
    source = np.random.default_rng(seed)
    wave = np.sin(2 * np.pi * np.arange(rows) / 1_440)[:, None] * source.uniform(0.2, 1, len(FEATURES))
    values = 5 + wave + 0.2 * source.standard_normal((rows, len(FEATURES)))
    return Series(values.astype(np.float32), FEATURES, 60, 0)


def fitted(kind: str) -> Fleet:
    """A fleet of two entities with two days each."""
    told = {"a": series(2_880, 1), "b": series(2_880, 2)}
    units = Units.fit(told, seasons=True)
    return fleet.assemble(units, detector.fit(kind, list(fleet.residuals_of(units, told).values()), seed=1), told)


def rates(name: str, work: Callable[[], int]) -> dict[str, int]:
    """What `work` does in a second by its own count, one thread a core; and in a second of one core's time.

    The second says what it would be on a machine that nobody else uses.
    """
    cores = os.cpu_count() or 1
    work()
    began, spent = time.perf_counter(), time.process_time()

    def alone() -> int:
        done = 0
        while time.perf_counter() - began < _SECONDS:
            done += work()
        return done

    with ThreadPoolExecutor(cores) as threads:
        done = sum(one.result() for one in [threads.submit(alone) for _ in range(cores)])
    return {
        f"{name}_per_s": round(done / (time.perf_counter() - began)),
        f"{name}_per_cpu_s": round(done / (time.process_time() - spent)),
    }


def in_process(kind: str) -> dict[str, int]:
    """Windows and rows a second."""
    model = fitted(kind)
    long = series(50_000, 3)
    windows = np.lib.stride_tricks.sliding_window_view(long.values, ROWS, axis=0)[:BATCH].transpose(0, 2, 1)
    batch = np.ascontiguousarray(windows)
    names, starts = ["a"] * BATCH, list(range(0, BATCH * 60_000_000, 60_000_000))

    def of_windows() -> int:
        return int(model.score_last(batch, names, starts).score.size)

    def of_rows() -> int:
        return int(model.score(long, "a").score.size)

    return rates("windows", of_windows) | rates("rows", of_rows)


def of_traces(kind: str) -> dict[str, float]:
    """Traces a second."""
    model = trace_detector.fit(kind, trace_faults.usual("traces", TRACES_FIT, seed=1).spans, seed=1)
    spans = trace_faults.usual("traces", TRACES, seed=2).spans

    def score() -> int:
        return int(model.score(spans).score.size)

    return {**rates("traces", score), "spans_per_trace": round(spans.num_rows / TRACES, 1)}


def training() -> dict[str, float]:
    """Steps and windows a second of the autoencoder, in one thread."""
    trainer = Trainer(recipe(len(FEATURES)), [series(2_880, 1)], seed=1)
    began = time.perf_counter()
    while time.perf_counter() - began < _SECONDS:
        trainer.step()
    steps = trainer.done / (time.perf_counter() - began)
    return {"steps_per_s": round(steps), "windows_per_s": round(steps * recipe(len(FEATURES)).batch)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="llmhub bench score", description=__doc__)
    parser.add_argument("--detector", default="autoencoder")
    parser.add_argument("--features", type=int, default=len(FEATURES), help="of that champion")
    kinds = ",".join((*DETECTORS, *TRACE_DETECTORS))
    parser.add_argument("--kinds", default=kinds, help="in process, none for HTTP alone")
    parser.add_argument("--every-s", type=float, default=0.5, help="pace of each client over HTTP")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    figures: dict[str, Any] = {"machine": machine(), "training": training()}
    figures |= {kind: in_process(kind) for kind in options.kinds.split(",") if kind in DETECTORS}
    figures |= {kind: of_traces(kind) for kind in options.kinds.split(",") if kind in TRACE_DETECTORS}
    url, key = os.environ.get("HUB_URL"), os.environ.get("HUB_API_KEY")
    if url and key:
        windows = np.random.default_rng(1).normal(5, 1, (4, ROWS, options.features)).tolist()
        body = {"detector": options.detector, "windows": windows}
        figures["http"] = asyncio.run(load_of(url, key, body))
        figures["http_paced"] = asyncio.run(load_of(url, key, body, every_s=options.every_s))
    print(json.dumps(figures, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
