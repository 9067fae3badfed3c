"""Every setting, route, measure and metric has its heading in docs, and nothing there names what is gone."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from fastapi.routing import APIRoute

from cluster import telemetry
from cluster.settings import Settings
from models.measures import MEASURES
from tests.serving import ray_serve_quietly

# Routes come with Ray Serve, whose own import warns.
assert ray_serve_quietly.LOADED
from serving.ingress import ROUTERS  # noqa: E402

DOCS = Path(__file__).parents[2] / "docs"
# Variables that are not settings of the hub but have a place in its documentation.
FOREIGN = {"HUB_JOURNAL_DIR", "HUB_URL", "HUB_API_KEY", "HUB_TORCH"}


def _headings(name: str) -> str:
    return "\n".join(line for line in (DOCS / name).read_text().splitlines() if line.startswith("#"))


def test_every_setting_has_its_heading() -> None:
    headings = _headings("operations.md")
    named = {f"HUB_{field.name.upper()}" for field in fields(Settings)}
    assert sorted(name for name in named if not re.search(rf"`?{name}\b", headings)) == []
    assert sorted(set(re.findall(r"HUB_[A-Z_]+", headings)) - named - FOREIGN) == []


def test_every_route_has_its_heading() -> None:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    served = {
        f"{method} {re.sub(r':path(?=})', '', route.path)}"
        for route in routes
        # What GET answers, HEAD answers without its body.
        for method in route.methods - {"HEAD"}
    }
    told = set(re.findall(r"^### `([A-Z]+ /\S*)`$", _headings("api.md"), re.MULTILINE))
    assert served
    assert sorted(served - told) == []
    assert sorted(told - served) == []


def test_every_measure_has_its_heading() -> None:
    headings = _headings("measures.md")
    assert sorted(name for name in MEASURES if name not in headings) == []


def test_every_metric_has_its_heading() -> None:
    headings = _headings("operations.md")
    metrics = [value.name for value in vars(telemetry).values() if isinstance(value, telemetry.Metric)]
    assert metrics
    assert sorted(name for name in metrics if name not in headings) == []
