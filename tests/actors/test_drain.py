"""A drain meets actors that are just being started again, and asks until they answer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayActorError

from actors import pool


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One core, unless this process is in a cluster already; never a hub that happens to run on the machine."""
    started = not ray.is_initialized()
    if started:
        ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
    yield
    if started:
        ray.shutdown()


class Part:
    """Ends with its process as often as it is told to, and is drained after that."""

    def __init__(self, place: Path, ends: int) -> None:
        self._place = place
        self._ends = ends

    def drain(self) -> None:
        asked = int(self._place.read_text()) if self._place.exists() else 0
        self._place.write_text(str(asked + 1))
        if asked < self._ends:
            os._exit(1)


def part(place: Path, *, ends: int, max_restarts: int = -1) -> Any:
    made: Any = ray.remote(Part)
    return made.options(num_cpus=0, max_restarts=max_restarts, max_task_retries=0).remote(place, ends)


def test_what_is_started_again_meanwhile_is_asked_again_and_the_others_once(tmp_path: Path) -> None:
    moving, calm = part(tmp_path / "moving", ends=2), part(tmp_path / "calm", ends=0)
    pool._drained([moving, calm])
    assert ((tmp_path / "moving").read_text(), (tmp_path / "calm").read_text()) == ("3", "1")


def test_what_stays_away_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_DRAIN_WITHIN_S", 1.0)
    with pytest.raises(RayActorError):
        pool._drained([part(tmp_path / "gone", ends=9, max_restarts=0)])
