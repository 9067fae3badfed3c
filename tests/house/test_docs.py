"""Every setting, route, measure and metric has its heading in docs, and nothing there names what is gone."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from fastapi.routing import APIRoute

from cluster import telemetry
from cluster.settings import Settings
from models.measures import MEASURES

DOCS = Path(__file__).parents[2] / "docs"


def _headings(name: str) -> str:
    return "\n".join(line for line in (DOCS / name).read_text().splitlines() if line.startswith("#"))


def test_every_setting_has_its_heading() -> None:
    headings = _headings("operations.md")
    named = {f"HUB_{field.name.upper()}" for field in fields(Settings)}
    assert sorted(name for name in named if not re.search(rf"`?{name}\b", headings)) == []
    assert sorted(set(re.findall(r"HUB_[A-Z_]+", headings)) - named - {"HUB_JOURNAL_DIR", "HUB_URL", "HUB_API_KEY", "HUB_TORCH"}) == []


def test_every_measure_has_its_heading() -> None:
    headings = _headings("measures.md")
    assert sorted(name for name in MEASURES if name not in headings) == []


def test_every_metric_has_its_heading() -> None:
    headings = _headings("operations.md")
    metrics = [value.name for value in vars(telemetry).values() if isinstance(value, telemetry.Metric)]
    assert metrics
    assert sorted(name for name in metrics if name not in headings) == []
