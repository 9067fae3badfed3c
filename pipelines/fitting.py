"""The road of every detector: fitted in Ray Train workers that read a Ray dataset, with checkpoints to go on from.

Networks are trained step by step by any number of workers that add up their gradients; a worker that dies is started
again and goes on at the last checkpoint. Detectors without training steps go the same way, in one worker.
"""

from __future__ import annotations

import json
import os
import resource
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np
import structlog
import torch
from ray import train
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, prepare_model
from torch import nn

from models.anomaly import detector
from models.anomaly.refusals import NotEnoughData
from models.anomaly.scores import Arrays, Fitted
from models.anomaly.series import Series
from models.anomaly.training import Trainer
from pipelines.background import step_back
from pipelines.windows import dataset, series_of

log = structlog.get_logger("fitting")

# Kinds with training steps, and the module that has their recipe.
NETWORKS: Final = {"autoencoder": "models.anomaly.autoencoder", "gnn_metric": "models.anomaly.gnn_metric"}
FAILURES_MAX: Final = 3
WORKER_CPUS: Final = 0.3
_STATE, _FITTED, _CONFIGURATION = "state.pt", "fitted.npz", "configuration"
_CHECKPOINTS_KEPT: Final = 2


@dataclass(frozen=True, slots=True)
class Work:
    """What one fit is told.

    Attributes:
        name: of the run; a run of the same name in the same folder goes on where it stopped.
        steps: of the optimizer, None as the recipe has it.
        edges: False trains the twin of `gnn_metric` without its graph.
        checkpoint_every: steps.
    """

    kind: str
    name: str
    seed: int = 1
    workers: int = 1
    steps: int | None = None
    edges: bool = True
    checkpoint_every: int = 100


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """A fitted head and what it cost.

    Attributes:
        losses: mean loss up to each checkpoint, of the first worker.
        resumed_at: steps that were done when the last start of the workers began.
        peak_bytes: of the largest worker.
    """

    head: Fitted
    losses: tuple[float, ...]
    resumed_at: int
    seconds: float
    peak_bytes: int
    # The same network without its graph, where it has one: what the graph has to beat.
    twin: Fitted | None = None


def fit(work: Work, series: Mapping[str, Series], *, folder: Path) -> Outcome:
    """Fit a head on residual series.

    Args:
        folder: where checkpoints are kept; what a finished run leaves there is small.

    Raises:
        NotEnoughData, SeriesInvalid: see `detector.fit`.
        ray.train.TrainingFailedError: workers died more than FAILURES_MAX times, or failed in another way.
    """
    began_s = time.monotonic()
    use_gpu = torch.cuda.is_available()
    trainer = TorchTrainer(
        _fit_here,
        train_loop_config=asdict(work),
        datasets={"windows": dataset(series)},
        # Every worker reads all: what it draws of them is decided by seed, worker and step.
        dataset_config=train.DataConfig(datasets_to_split=[]),
        scaling_config=ScalingConfig(
            num_workers=work.workers, use_gpu=use_gpu, resources_per_worker=None if use_gpu else {"CPU": WORKER_CPUS}
        ),
        run_config=RunConfig(
            name=work.name,
            storage_path=str(folder.absolute()),
            failure_config=FailureConfig(max_failures=FAILURES_MAX),
            checkpoint_config=CheckpointConfig(num_to_keep=_CHECKPOINTS_KEPT),
        ),
    )
    result = trainer.fit()
    told = dict(result.metrics or {})
    if "refused" in told:
        raise NotEnoughData(str(told["refused"]))
    assert result.checkpoint is not None
    with result.checkpoint.as_directory() as place:
        arrays, configuration = _read(Path(place, _FITTED))
    return Outcome(
        detector.load(work.kind, arrays, configuration),
        tuple(told["losses"]),
        int(told["resumed_at"]),
        time.monotonic() - began_s,
        int(told["peak_bytes"]),
    )


def _fit_here(told: dict[str, Any]) -> None:
    """What each worker runs."""
    step_back()
    work = Work(**told)
    context = train.get_context()
    windows = train.get_dataset_shard("windows").iter_batches(batch_format="pyarrow", batch_size=None)
    series = list(dict(sorted(series_of(windows).items())).values())
    try:
        if work.kind in NETWORKS:
            _train_network(work, series, rank=context.get_world_rank(), workers=context.get_world_size())
        else:
            _report(detector.fit(work.kind, series, seed=work.seed), losses=[], resumed_at=0)
    except NotEnoughData as error:
        train.report({"refused": error.message})


def _train_network(work: Work, series: list[Series], *, rank: int, workers: int) -> None:
    # More threads than cores' worth of workers only wait for each other.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))

    def wrap(network: nn.Module) -> nn.Module:
        # The twin without edges leaves unused what reads neighbours.
        unused = {"find_unused_parameters": not work.edges}
        wrapped: nn.Module = prepare_model(network, parallel_strategy_kwargs=unused)
        return wrapped

    trainer = Trainer(
        _recipe(work, series[0].features),
        series,
        seed=work.seed,
        worker=rank,
        workers=workers,
        wrap=wrap if workers > 1 else lambda network: network,
        device="cuda" if torch.cuda.is_available() else "cpu",
    )
    losses: list[float] = []
    checkpoint = train.get_checkpoint()
    if checkpoint is not None:
        with checkpoint.as_directory() as place:
            kept = torch.load(Path(place, _STATE), weights_only=True)
        trainer.restore(kept["trainer"])
        losses = list(kept["losses"])
    resumed_at, sums = trainer.done, []
    print(f"{work.kind}: worker {rank} of {workers}, process {os.getpid()}, from step {resumed_at}", flush=True)
    while trainer.done < trainer.steps:
        sums.append(trainer.step())
        if trainer.done % work.checkpoint_every == 0 and trainer.done < trainer.steps:
            losses.append(float(np.mean(sums)))
            sums.clear()
            _keep(trainer, losses, rank)
    losses.append(float(np.mean(sums)) if sums else losses[-1])
    if rank == 0:
        _report(trainer.finish(), losses=losses, resumed_at=resumed_at)
    else:
        train.report(_figures(losses, resumed_at))


def _recipe(work: Work, features: Sequence[str]) -> Any:
    module = import_module(NETWORKS[work.kind])
    recipe = module.recipe(features, edges=work.edges) if work.kind == "gnn_metric" else module.recipe(len(features))
    return recipe if work.steps is None else replace(recipe, shape=replace(recipe.shape, steps=work.steps))


def _keep(trainer: Trainer, losses: list[float], rank: int) -> None:
    figures = {"step": trainer.done, "loss": losses[-1]}
    if rank:
        train.report(figures)
        return
    with tempfile.TemporaryDirectory() as place:
        torch.save({"trainer": trainer.state(), "losses": losses}, Path(place, _STATE))
        train.report(figures, checkpoint=Checkpoint.from_directory(place))
    print(f"step {trainer.done} of {trainer.steps}, loss {losses[-1]:.4f}", flush=True)


def _report(head: Fitted, *, losses: list[float], resumed_at: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        _write(Path(place, _FITTED), head)
        train.report(_figures(losses, resumed_at), checkpoint=Checkpoint.from_directory(place))


def _figures(losses: list[float], resumed_at: int) -> dict[str, Any]:
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"losses": losses, "resumed_at": resumed_at, "peak_bytes": peak_bytes}


def _write(path: Path, head: Fitted) -> None:
    told = np.frombuffer(json.dumps(head.configuration()).encode(), np.uint8)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **{_CONFIGURATION: told}, **head.arrays())


def _read(path: Path) -> tuple[Arrays, dict[str, Any]]:
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    told: dict[str, Any] = json.loads(arrays.pop(_CONFIGURATION).tobytes())
    return arrays, told
