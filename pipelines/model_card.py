"""What a run says of its model beside figures: the card, and three plots."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib
import numpy as np

from cluster.clock import format_rfc3339
from models.anomaly.fleet import POOLED, Fleet
from models.anomaly.series import Series

matplotlib.use("Agg")
from matplotlib.figure import Figure

FORMAT: Final = 1
_NAMES_MAX: Final = 200
_USE: Final = (
    "Scores how unusual the last rows of an entity are, given the rows before. A score is a surprisal against training "
    "time, not a probability of a fault. It knows only what the features tell and only the entities it was trained on."
)


def card_of(
    source: Mapping[str, str],
    fleet: Fleet,
    series: Mapping[str, Series],
    *,
    whole: Mapping[str, Series],
    figures: Mapping[str, object],
) -> dict[str, Any]:
    """The model card, JSON.

    Args:
        series: what was fitted on. whole: held-back rows with their past.
    """
    first, last = next(iter(series.values())), next(iter(whole.values()))
    skipped = sorted(set(series) - set(fleet.units.names))
    return {
        "format": FORMAT,
        "use": _USE,
        "kind": fleet.kind,
        "features": list(fleet.units.features),
        "step_s": fleet.units.step_s,
        "entities": list(fleet.units.names[1:][:_NAMES_MAX]),
        "entities_without_enough_data": skipped[:_NAMES_MAX],
        "data": dict(source),
        "trained_from": format_rfc3339(first.start_us),
        "trained_to": format_rfc3339(_end_us(first)),
        "held_back_to": format_rfc3339(_end_us(last)),
        "trained_to_us": _end_us(first),
        "held_back_to_us": _end_us(last),
        "threshold": fleet.threshold(POOLED).value,
        "budget_per_day": fleet.threshold(POOLED).budget_per_day,
        "figures": {name: value for name, value in figures.items() if isinstance(value, float)},
    }


def _end_us(series: Series) -> int:
    return series.start_us + series.rows * series.step_s * 1_000_000


def plots_of(fleet: Fleet, whole: Mapping[str, Series], losses: Sequence[float]) -> dict[str, bytes]:
    """PNG files: the loss by checkpoint, scores of held-back time by entity, and how they are distributed."""
    known = [name for name in fleet.units.names[1:] if name in whole][:8]
    scores = {name: fleet.score(whole[name], name).score for name in known}
    plots = {}
    if losses:
        figure = Figure((7, 3))
        axis = figure.subplots()
        axis.plot(np.arange(1, len(losses) + 1), losses)
        axis.set(xlabel="checkpoint", ylabel="loss", yscale="log")
        plots["loss.png"] = _png(figure)
    figure = Figure((9, 1 + 1.4 * len(known)))
    for axis, (name, score) in zip(
        np.atleast_1d(figure.subplots(len(known), sharex=True)), scores.items(), strict=True
    ):
        axis.plot(score, linewidth=0.7)
        axis.axhline(fleet.threshold(name).level, color="tab:red", linewidth=0.7)
        axis.set_title(name[:90], fontsize=7)
    plots["held_back_scores.png"] = _png(figure)
    figure = Figure((7, 3))
    axis = figure.subplots()
    together = np.concatenate([score[np.isfinite(score)] for score in scores.values()])
    axis.hist(together, bins=60, density=True)
    # Surprisal of a well calibrated score is exponential.
    grid = np.linspace(0, max(float(together.max(initial=1.0)), 1.0), 200)
    axis.plot(grid, np.exp(-grid))
    axis.set(xlabel="score", ylabel="density", yscale="log")
    plots["score_distribution.png"] = _png(figure)
    return plots


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.tight_layout()
    figure.savefig(content, format="png", dpi=90)
    return content.getvalue()
