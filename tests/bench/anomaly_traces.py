"""How well trace detectors find faults: on the frozen generator, its check, and the fault windows of Nezha.

Every detector is fitted on usual traces and judged on others. Recall is at 1 % of usual traces reported. The network
alone and its twin without edges are shown beside what counting alone does, so that it can be seen what earns its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import nn

from models.anomaly import gnn_trace, trace_rarity
from models.anomaly.evaluation import Labels, auc_pr
from models.anomaly.series import Floats
from models.anomaly.trace_graph import Graphs, build, operations_of, vocabulary_of
from models.anomaly.trace_ratios import log_mean
from models.anomaly.trace_scores import FittedTraces, Heads
from models.anomaly.trace_structure import Structure
from tests.bench import trace_faults

FIT, TEST, EACH = 12_000, 15_000, 40
_FALSE_SHARE: Final = 0.01
_NETWORK: Final = ("slow_self", "slow_between", "slow_first_token", "slow_rest", "input_tokens", "output_tokens")
_BAR: Final = ("edge", "template", "value")
_COLUMNS: Final = (
    *("case_id", "trace_id", "span_id", "parent_span_id", "pod", "service", "operation"),
    *("start_ns", "occurred_at", "latency_ms"),
)
Scorer = Callable[[pa.Table], Floats]


def scorers(spans: pa.Table, seed: int) -> Iterator[tuple[str, Scorer]]:
    """Every row of the table."""
    source = np.random.default_rng(seed)
    rarity = trace_rarity.fit(spans, seed=seed)
    graph, twin = (gnn_trace.fit(spans, seed=seed, edges=edges) for edges in (True, False))
    yield "random", lambda table: source.random(len(pc.unique(table["trace_id"])))
    yield "deviation by operation", _largest(spans, ("value",))
    yield "rare calls and mixes (the bar)", _largest(spans, _BAR)
    yield "trace_rarity", lambda table: rarity.score(table).score
    yield "flat autoencoder", flat_autoencoder(spans, seed)
    yield "network alone, no edges", _some(twin, _NETWORK)
    yield "network alone", _some(graph, _NETWORK)
    yield "gnn_trace, no edges", lambda table: twin.score(table).score
    yield "gnn_trace", lambda table: graph.score(table).score


def _some(fitted: FittedTraces, heads: tuple[str, ...]) -> Scorer:
    def score(table: pa.Table) -> Floats:
        found = fitted.score(table)
        chosen = found.evidence[:, [found.heads.index(name) for name in heads]]
        return log_mean(chosen.T, np.ones(len(heads)))

    return score


def _largest(spans: pa.Table, heads: tuple[str, ...]) -> Scorer:
    """The largest surprisal of some of what can be counted, each by the kind of request."""
    vocabulary, early, late = trace_rarity.split(spans)
    structure = Structure.fit(early, operations_of(vocabulary))
    units = trace_rarity.Units.fit(early, len(vocabulary) + 1)

    def some(graphs: Graphs) -> dict[str, Floats]:
        found = trace_rarity.rarity(structure, units, graphs)
        return {name: found[name] for name in heads}

    tails = Heads.fit(some(late), late)

    def score(table: pa.Table) -> Floats:
        graphs = build(table, vocabulary)
        return np.asarray(tails.judge(some(graphs), graphs).evidence.max(axis=1))

    return score


def flat_autoencoder(spans: pa.Table, seed: int) -> Scorer:
    """Reconstruction of one row a trace: how often each operation, and how long it took at most."""
    vocabulary = vocabulary_of(spans)
    width = len(vocabulary) + 1

    def rows(graphs: Graphs) -> torch.Tensor:
        flat = np.zeros((graphs.traces, 2 * width + 2), np.float32)
        place = (graphs.trace, graphs.label)
        np.add.at(flat, place, 1.0)
        np.maximum.at(flat, (graphs.trace, width + graphs.label), np.nan_to_num(graphs.values[:, 0]))
        np.add.at(flat[:, -2], graphs.trace, graphs.failed)
        np.maximum.at(flat[:, -1], graphs.trace, graphs.depth)
        return torch.from_numpy(np.log1p(flat))

    train = rows(build(spans, vocabulary))
    centre, spread = train.mean(dim=0), train.std(dim=0).clamp(min=0.05)
    train = (train - centre) / spread
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Linear(train.shape[1], 64), nn.GELU(), nn.Linear(64, 8), nn.GELU(), nn.Linear(8, 64), nn.GELU(),
        nn.Linear(64, train.shape[1]),
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(1_500):
        batch = train[torch.randint(0, train.shape[0], (256,))]
        optimizer.zero_grad()
        nn.functional.smooth_l1_loss(network(batch), batch).backward()
        optimizer.step()

    def score(table: pa.Table) -> Floats:
        given = (rows(build(table, vocabulary)) - centre) / spread
        with torch.inference_mode():
            return (network(given) - given).square().mean(dim=1).double().numpy()

    return score


def generated(world: str, seeds: list[int], told: Callable[[dict[str, Any]], None]) -> None:
    """Means over seeds; average precision over structural and latency kinds, token blow-ups apart."""
    columns: dict[str, dict[str, list[float]]] = {}
    for seed in seeds:
        fit = trace_faults.usual(world, FIT, seed=10 * seed)
        usual, faulty = trace_faults.usual(world, TEST, seed=10 * seed + 1), trace_faults.faulty(world, EACH, seed=seed)
        held = np.isin(faulty.kinds, trace_faults.STRUCTURAL + trace_faults.LATENCY)
        for name, score in scorers(fit.spans, seed):
            line = columns.setdefault(name, {})
            begun_s = time.process_time()
            calm = score(usual.spans)
            line.setdefault("traces_per_cpu_s", []).append(TEST / max(time.process_time() - begun_s, 1e-6))
            found = score(faulty.spans)
            level = float(np.quantile(calm, 1 - _FALSE_SHARE))
            labels: Labels = np.arange(calm.size + held.sum()) >= calm.size
            line.setdefault("average_precision", []).append(auc_pr(np.concatenate((calm, found[held])), labels))
            line.setdefault("recall", []).append(float((found[held] > level).mean()))
            for part, names in (("structural", trace_faults.STRUCTURAL), ("latency", trace_faults.LATENCY)):
                line.setdefault(part, []).append(float((found[np.isin(faulty.kinds, names)] > level).mean()))
            for size in trace_faults.MAGNITUDES:
                chosen = held & (faulty.magnitudes == size)
                line.setdefault(f"x{size:g}", []).append(float((found[chosen] > level).mean()))
            for kind in trace_faults.KINDS:
                line.setdefault(kind, []).append(float((found[faulty.kinds == kind] > level).mean()))
        told(_means(columns))


def _means(columns: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    lines: dict[str, Any] = {}
    for name, line in columns.items():
        lines[name] = {column: round(float(np.mean(values)), 3) for column, values in line.items()}
        for column in ("average_precision", "recall"):
            lines[name][f"{column}_sd"] = round(float(np.std(line[column])), 3)
        lines[name]["seeds"] = len(line["recall"])
    return lines


def nezha(folder: Path, told: Callable[[dict[str, Any]], None]) -> None:
    """Traces after an injection that touch the faulty pod, beside those that began before; early cases to fit on."""
    place = folder / "rca" / "nezha"
    if not (place / "faults.parquet").exists():
        return
    faults = pq.read_table(place / "faults.parquet").to_pylist()
    lines: dict[str, Any] = {}
    for system in ("train_ticket", "online_boutique"):
        own = [fault for fault in faults if fault["system"] == system]
        spans = _spans(place, system)
        fit, calm, broken = [_free(place, system)], [], []
        for number, fault in enumerate(own):
            case = spans.filter(pc.equal(spans["case_id"], fault["case_id"]))
            begun = case.group_by("trace_id").aggregate([("start_ns", "min")])
            inject_ns = int(fault["inject_ts"].replace(tzinfo=UTC).timestamp()) * 1_000_000_000
            before = begun.filter(pc.less(begun["start_ns_min"], inject_ns - 20_000_000_000))["trace_id"]
            (fit if number < len(own) // 2 else calm).append(_of(case, before))
            after = begun.filter(pc.greater(begun["start_ns_min"], inject_ns))["trace_id"]
            touched = pc.unique(case.filter(pc.equal(case["pod"], fault["pod"]))["trace_id"])
            if number >= len(own) // 2:
                broken.append(_of(case, pc.filter(after, pc.is_in(after, touched))))
        parts = [pa.concat_tables(one) for one in (fit, calm, broken)]
        board: dict[str, Any] = {}
        for name, score in scorers(parts[0], 1):
            low, high = score(parts[1]), score(parts[2])
            low, high = (np.nan_to_num(one, nan=-1.0) for one in (low, high))
            labels: Labels = np.arange(low.size + high.size) >= low.size
            board[name] = {
                "average_precision": round(auc_pr(np.concatenate((low, high)), labels), 3),
                "recall": round(float((high > np.quantile(low, 1 - _FALSE_SHARE)).mean()), 3),
            }
            board["traces"] = {"usual": int(low.size), "faulty": int(high.size)}
            lines[system] = board
            told(lines)


def _spans(place: Path, system: str) -> pa.Table:
    return _as_events(pq.read_table(place / f"{system}_spans.parquet"))


def _free(place: Path, system: str) -> pa.Table:
    table = pq.read_table(place / "fault_free_spans.parquet")
    return _as_events(table.filter(pc.equal(table["system"], system)))


def _as_events(table: pa.Table) -> pa.Table:
    """With the columns of stored spans beside those of the source."""
    table = table.append_column("parent_span_id", table["parent_id"])
    table = table.append_column("occurred_at", pc.divide(table["start_ns"], 1_000))
    table = table.append_column("latency_ms", pc.divide(pc.cast(table["duration_ns"], pa.float64()), 1e6))
    # A fault-free minute has no case, and so a column of another type.
    case = pc.cast(table["case_id"], pa.string())
    return table.set_column(table.column_names.index("case_id"), "case_id", case).select(_COLUMNS)


def _of(table: pa.Table, traces: pa.ChunkedArray) -> pa.Table:
    return table.filter(pc.is_in(table["trace_id"], traces.combine_chunks()))


def show(lines: dict[str, Any]) -> str:
    """The table as text."""
    shown = ("average_precision", "average_precision_sd", "recall", "recall_sd", "structural", "latency")
    shown += tuple(f"x{size:g}" for size in trace_faults.MAGNITUDES)
    text = [f"{'':32}" + " ".join(f"{column:>11.11}" for column in shown)]
    text += [f"{name:32}" + " ".join(f"{line[column]:11.3f}" for column in shown) for name, line in lines.items()]
    return "\n".join(text)
