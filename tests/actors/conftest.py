"""A store of models, as detectors read it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.artifacts import ModelStore


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(f"sqlite:///{tmp_path}/m.db", tmp_path, artifacts=str(tmp_path / "artifacts"))
