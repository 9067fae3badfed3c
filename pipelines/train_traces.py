"""Train the detector of traces on Ray Train: one graph a trace, the twin without edges and the bar beside it."""

from __future__ import annotations

import argparse
import io
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data
import torch
from ray import train
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, prepare_model
from torch import nn

from cluster.artifacts import ModelStore, Record
from cluster.clock import SystemClock, format_rfc3339
from cluster.errors import RequestInvalid
from cluster.lake.scan import TableReader, files
from cluster.settings import Settings
from cluster.tenancy import TenantScope, tenant_id
from models.anomaly import trace_rarity
from models.anomaly.gnn_trace import KIND, TraceTrainer
from models.anomaly.gnn_trace import load as load_graphs
from models.anomaly.refusals import NotEnoughData
from models.anomaly.trace_judgement import judge
from models.anomaly.trace_model import with_threshold
from models.anomaly.trace_scores import FittedTraces
from pipelines.background import step_back
from pipelines.fitting import FAILURES_MAX, WORKER_CPUS
from pipelines.joining import join_with_data
from pipelines.options import chosen
from pipelines.report import reported
from pipelines.training_job import OPTIONS, Order, order_of

COLUMNS: Final = (
    *("trace_id", "span_id", "parent_span_id", "operation", "service", "model", "status", "occurred_at"),
    *("latency_ms", "ttft_ms", "input_tokens", "output_tokens"),
)
SPANS_MAX: Final = 2_000_000
_EVENTS: Final = "events"
_STATE, _ARRAYS, _CONFIGURATION = "state.pt", "arrays.npz", "configuration.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 registered, 1 a failure or too little data, 2 wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.train_gnn --set graph=traces")
    parser.add_argument("--set", action="append", default=[], metavar="K=V", help=", ".join(OPTIONS))
    try:
        options = chosen(parser.parse_args(arguments).set, OPTIONS)
        order = order_of(KIND, options, layout="entities", now_us=SystemClock().now_us())
    except RequestInvalid as error:
        parser.error(f"{error.message} {error.hint}")
    join_with_data()
    return reported(lambda: learn(order, Settings.from_environment()))


def learn(order: Order, settings: Settings, *, store: ModelStore | None = None) -> dict[str, Any]:
    """Train on the earlier traces, judge on those held back, register; the report of what was made.

    Raises:
        NotEnoughData, SpansInvalid: the traces do not suffice. Unavailable: MLflow does not answer.
    """
    began_s = time.monotonic()
    spans, source = read(order, settings)
    early, late, trained_to_us = parted(spans, order.holdout)
    folder = settings.data / "training"
    model = with_threshold(fit(order, early, folder, edges=True))
    figures = judge(model, late).metrics()
    figures |= judge(with_threshold(fit(order, early, folder, edges=False)), late).metrics("no_edges_")
    figures |= judge(with_threshold(trace_rarity.fit(early, seed=order.work.seed)), late).metrics("rarity_")
    figures["job_s"] = time.monotonic() - began_s
    card = {
        "format": 1,
        "kind": KIND,
        "use": "Scores how unusual a trace is: its calls, their number, times, tokens and failures. A surprisal.",
        "data": source,
        "trained_to": format_rfc3339(trained_to_us),
        "threshold": model.threshold,
        "operations": len(model.configuration()["vocabulary"]),
        "figures": figures,
    }
    parameters = {"kind": KIND, "tenant": order.tenant, "holdout": str(order.holdout), "seed": str(order.work.seed)}
    told = {f"data_{name}": value for name, value in source.items()}
    version = (store or ModelStore.of(settings)).register(
        order.owner,
        KIND,
        Record(parameters | told, dict(figures), card),
        arrays=model.arrays(),
        configuration=model.configuration() | {"trained_to_us": trained_to_us},
    )
    return {"owner": order.owner, "kind": KIND, "version": version, "source": source, "figures": figures}


def read(order: Order, settings: Settings) -> tuple[pa.Table, dict[str, str]]:
    """Spans of the tenant in the range, the newest up to SPANS_MAX; of `files`, those of all Parquet files there.

    Raises:
        NotEnoughData: there are none.
    """
    if order.files:
        parts = [pq.read_table(path) for path in sorted(Path(order.files).glob("*.parquet"))]
        source = {"folder": order.files}
    else:
        scope = TenantScope.of(tenant_id(order.tenant))
        snapshot = TableReader(settings.lake, _EVENTS).refresh()
        parts, rows = [], 0
        for one in files(scope, snapshot, *order.span_us):
            if rows > SPANS_MAX:
                break
            table = pq.read_table(one.path, columns=list(COLUMNS), partitioning=None)
            at = pc.cast(table["occurred_at"], pa.int64())
            inside = pc.and_(pc.greater_equal(at, order.span_us[0]), pc.less(at, order.span_us[1]))
            parts.append(table.filter(inside))
            rows += len(parts[-1])
        source = {"table": _EVENTS, "version": str(snapshot.version)}
    if not any(len(one) for one in parts):
        raise NotEnoughData("no spans in this range", hint="Widen the range, or send traces first.")
    spans = pa.concat_tables([one.select([name for name in COLUMNS if name in one.column_names]) for one in parts])
    spans = spans.filter(pc.and_(pc.is_valid(spans["trace_id"]), pc.is_valid(spans["span_id"])))
    return spans, source


def parted(spans: pa.Table, holdout: float) -> tuple[pa.Table, pa.Table, int]:
    """Spans of the earlier and of the later traces, by start, and the instant between them."""
    cut_us = int(np.quantile(_starts(spans)["at_min"].to_numpy(), 1 - holdout))
    return *parted_at(spans, cut_us), cut_us


def parted_at(spans: pa.Table, cut_us: int) -> tuple[pa.Table, pa.Table]:
    """Spans of the traces that began before an instant, and of those that began later."""
    starts = _starts(spans)
    late = pc.is_in(spans["trace_id"], starts.filter(pc.greater_equal(starts["at_min"], cut_us))["trace_id"])
    return spans.filter(pc.invert(late)), spans.filter(late)


def _starts(spans: pa.Table) -> pa.Table:
    at = pc.cast(spans["occurred_at"], pa.int64())
    return pa.table({"trace_id": spans["trace_id"], "at": at}).group_by("trace_id").aggregate([("at", "min")])


def fit(order: Order, spans: pa.Table, folder: Path, *, edges: bool) -> FittedTraces:
    """Fit in Ray Train workers, with checkpoints to go on from.

    Raises:
        NotEnoughData, SpansInvalid.
    """
    use_gpu = torch.cuda.is_available()
    work = order.work
    told = {"seed": work.seed, "steps": work.steps, "edges": edges, "checkpoint_every": work.checkpoint_every}
    result = TorchTrainer(
        _fit_here,
        train_loop_config=told,
        datasets={"spans": ray.data.from_arrow(spans)},
        dataset_config=train.DataConfig(datasets_to_split=[]),
        scaling_config=ScalingConfig(
            num_workers=work.workers, use_gpu=False, resources_per_worker=None if use_gpu else {"CPU": WORKER_CPUS}
        ),
        run_config=RunConfig(
            name=work.name if edges else f"{work.name}-no-edges",
            storage_path=str(folder.absolute()),
            failure_config=FailureConfig(max_failures=FAILURES_MAX),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
        ),
    ).fit()
    told = dict(result.metrics or {})
    if "refused" in told:
        raise NotEnoughData(str(told["refused"]))
    assert result.checkpoint is not None
    with result.checkpoint.as_directory() as place, np.load(Path(place, _ARRAYS), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
        return load_graphs(arrays, json.loads(Path(place, _CONFIGURATION).read_text()))


def _fit_here(told: dict[str, Any]) -> None:
    """What each worker runs."""
    step_back()
    context = train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    batches = train.get_dataset_shard("spans").iter_batches(batch_format="pyarrow", batch_size=None)
    spans = pa.concat_tables(list(batches))

    def wrap(network: nn.Module) -> nn.Module:
        wrapped: nn.Module = prepare_model(network)
        return wrapped

    try:
        trainer = TraceTrainer(
            spans,
            seed=told["seed"],
            edges=told["edges"],
            worker=rank,
            workers=workers,
            wrap=wrap if workers > 1 else lambda network: network,
        )
    except NotEnoughData as error:
        train.report({"refused": error.message})
        return
    trainer.steps = told["steps"] or trainer.steps
    kept = train.get_checkpoint()
    if kept is not None:
        with kept.as_directory() as place:
            trainer.restore(torch.load(Path(place, _STATE), weights_only=True))
    while trainer.done < trainer.steps:
        loss = trainer.step()
        if trainer.done % told["checkpoint_every"] == 0 and trainer.done < trainer.steps:
            _report({"step": trainer.done, "loss": loss}, {_STATE: _packed(trainer.state())} if rank == 0 else {})
    if rank:
        train.report({"step": trainer.done})
        return
    fitted = trainer.finish()
    arrays = io.BytesIO()
    np.savez(arrays, allow_pickle=False, **fitted.arrays())
    configuration = json.dumps(fitted.configuration()).encode()
    _report({"step": trainer.done}, {_ARRAYS: arrays.getvalue(), _CONFIGURATION: configuration})


def _packed(state: dict[str, Any]) -> bytes:
    packed = io.BytesIO()
    torch.save(state, packed)
    return packed.getvalue()


def _report(figures: dict[str, Any], content: dict[str, bytes]) -> None:
    if not content:
        train.report(figures)
        return
    with tempfile.TemporaryDirectory() as place:
        for name, held in content.items():
            Path(place, name).write_bytes(held)
        train.report(figures, checkpoint=Checkpoint.from_directory(place))
