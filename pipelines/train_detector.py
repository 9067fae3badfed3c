"""Train any kind of detector on a tenant's own history and register it as the challenger: `--set kind=NAME`.

`python -m pipelines.train_detector --set kind=fusion [--set tenant=NAME] ...`, also through `ray job submit` and
`llmhub job`. Kinds without training steps are fitted in one worker; `fusion` fits its three heads one after the other;
`neighbourhood`, which judges entities beside each other, has a road of its own, see train_together.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from models.anomaly.neighbourhood import KIND as NEIGHBOURHOOD
from models.anomaly.series import Series
from pipelines.fitting import Outcome, fit
from pipelines.train_together import main as together
from pipelines.training_job import Order, run

_FUSION = "fusion"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 registered, 1 a failure or too little data, 2 wrong usage."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if any(word.removeprefix("--set=") == f"kind={NEIGHBOURHOOD}" for word in words):
        return together(words)
    return run(None, words, program="train_detector", layout="entities", fit=fitted)


def fitted(order: Order, series: Mapping[str, Series], folder: Path) -> Outcome:
    """The detector on residual series."""
    if order.kind != _FUSION:
        return fit(order.work, series, folder=folder)
    # Its heads need torch; nothing else here does.
    from models.anomaly.fusion import HEADS, fuse_heads  # noqa: PLC0415

    outcomes = {
        kind: fit(replace(order.work, kind=kind, name=f"{order.work.name}-{kind}"), series, folder=folder)
        for kind in HEADS
    }
    return Outcome(
        fuse_heads({kind: one.head for kind, one in outcomes.items()}, list(series.values())),
        (),
        max(one.resumed_at for one in outcomes.values()),
        sum(one.seconds for one in outcomes.values()),
        max(one.peak_bytes for one in outcomes.values()),
    )


if __name__ == "__main__":
    sys.exit(main())
