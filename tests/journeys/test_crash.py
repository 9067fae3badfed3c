"""kill -9 of each part, once here; `python -m tests.journeys.crash` does it ten times and prints the figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.journeys.crash import PARTS, is_sound, run

pytestmark = [pytest.mark.journey, pytest.mark.timeout(900)]


def test_nothing_acknowledged_is_lost_or_doubled_when_parts_are_killed(tmp_path: Path) -> None:
    figures = run(tmp_path / "data", PARTS, 1)
    assert is_sound(figures), figures
    assert sum(figures["killed"].values()) == len(PARTS)
