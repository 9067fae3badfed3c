"""What jobs need around them: a small Ray, and a store of models."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray

from cluster.artifacts import ModelStore
from cluster.settings import Settings


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two cores, unless this process is in a cluster already; never a hub that happens to run on the machine."""
    started = not ray.is_initialized()
    if started:
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    if started:
        ray.shutdown()


@pytest.fixture(scope="module")
def store(settings: Settings) -> ModelStore:
    """Beside the data of the module's own `settings`."""
    folder = settings.data
    return ModelStore(f"sqlite:///{folder}/m.db", folder, artifacts=str(folder / "artifacts"))
