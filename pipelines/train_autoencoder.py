"""Train the patch autoencoder on a tenant's own history, on Ray Train, and register it as the challenger.

`python -m pipelines.train_autoencoder [--set tenant=NAME] [--set from=-28d] [--set workers=2] ...`, also through
`ray job submit` and `llmhub job`. `--set files=DIR` trains on Parquet files of series instead. Prints one JSON object.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from models.anomaly.series import Series
from pipelines.fitting import Outcome, fit
from pipelines.training_job import Order, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0 registered, 1 a failure or too little data, 2 wrong usage."""
    return run("autoencoder", arguments, program="train_autoencoder", layout="entities", fit=fitted)


def fitted(order: Order, series: Mapping[str, Series], folder: Path) -> Outcome:
    """The network on residual series."""
    return fit(order.work, series, folder=folder)


if __name__ == "__main__":
    sys.exit(main())
