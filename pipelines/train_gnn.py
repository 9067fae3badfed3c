"""Train a graph network on Ray Train and register it as the challenger: `--set graph=metrics` or `graph=traces`.

`metrics`: entities side by side, a forecast of each of their features from those it moves with. Its twin without the
graph is trained beside it, and both figures stand in the run. `traces`: one graph a trace, see train_traces.
Also through `ray job submit` and `llmhub job`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from models.anomaly.series import Series
from pipelines.fitting import Outcome, fit
from pipelines.train_traces import main as of_traces
from pipelines.training_job import Order, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 registered, 1 a failure or too little data, 2 wrong usage."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    graph, rest = _graph(words)
    if graph not in GRAPHS:
        print(f"--set graph={graph}: one of {', '.join(GRAPHS)}", file=sys.stderr)
        return 2
    return GRAPHS[graph](rest)


def _graph(words: Sequence[str]) -> tuple[str, list[str]]:
    """The graph that is named among the words of the command line, and the words without it."""
    graph, rest, at = "metrics", [], 0
    while at < len(words):
        pair = words[at + 1] if words[at] == "--set" and at + 1 < len(words) else ""
        if pair.startswith("graph="):
            graph = pair.removeprefix("graph=")
        elif words[at].startswith("--set=graph="):
            graph = words[at].removeprefix("--set=graph=")
            pair = ""
        else:
            rest += [words[at], pair] if pair else [words[at]]
        at += 2 if pair else 1
    return graph, rest


def of_metrics(arguments: Sequence[str]) -> int:
    """The job over metrics of entities."""
    return run("gnn_metric", arguments, program="train_gnn", layout="fleet", fit=fitted)


def fitted(order: Order, series: Mapping[str, Series], folder: Path) -> Outcome:
    """The network on residual series, and its twin without edges."""
    with_edges = fit(order.work, series, folder=folder)
    twin = fit(replace(order.work, name=f"{order.work.name}-no-edges", edges=False), series, folder=folder)
    return replace(with_edges, twin=twin.head, seconds=with_edges.seconds + twin.seconds)


# Graph -> the job over it.
GRAPHS: Final[Mapping[str, Callable[[Sequence[str]], int]]] = MappingProxyType(
    {"metrics": of_metrics, "traces": of_traces}
)


if __name__ == "__main__":
    sys.exit(main())
