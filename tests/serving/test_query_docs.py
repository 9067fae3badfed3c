"""Every question in docs/api.md is answered, and its example has no field that the real answer lacks."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.tenancy import TenantId, TenantScope
from models.measures import MEASURES
from models.query.kinds import KIND_NAMES
from models.query.parameters import parse_body
from serving.query_batch import BATCH
from serving.query_engine import QueryEngine
from tests.serving.small_lake import event, tenants_apart

DOCS = Path(__file__).parents[2] / "docs"
ASKED = re.compile(r"/api/v1/query -d '(\{.*\})'")
TRACE, SESSION = "4bf92f3577b34da6a3ce929d0e0e4736", "s-2041"


def examples() -> list[tuple[dict[str, Any], dict[str, Any] | None]]:
    """Questions of the page, each with the answer that follows it, if one does."""
    text = (DOCS / "api.md").read_text()
    found: list[tuple[dict[str, Any], dict[str, Any] | None]] = []
    for block in re.split(r"^```\n(?=curl)", text, flags=re.MULTILINE)[1:]:
        curl, _, rest = block.partition("\n```\n")
        answer = rest.removeprefix("```json\n").partition("\n```")[0] if rest.startswith("```json") else None
        asked = [json.loads(match) for match in ASKED.findall(curl)]
        # A batch is of the door, see test_query_batch.py.
        asked = [one for one in asked if one["kind"] != BATCH]
        found += [(one, json.loads(answer) if answer and one is asked[0] else None) for one in asked]
    return found


EXAMPLES = examples()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueryEngine]:
    lake = tenants_apart(tmp_path_factory.mktemp("lake"), {"alpha": 400})
    lake.seal("alpha", [event(9, trace_id=TRACE, session_id=SESSION, user_id="u-7", model="gpt-x")])
    engine = lake.engine()
    yield engine
    engine.close()


def test_every_kind_has_an_example() -> None:
    assert {question["kind"] for question, _ in EXAMPLES} == set(KIND_NAMES)


@pytest.mark.parametrize("place", range(len(EXAMPLES)))
def test_an_example_is_answered_with_the_fields_it_shows(engine: QueryEngine, place: int) -> None:
    question, shown = EXAMPLES[place]
    kind, pairs = parse_body(question)
    answer = json.loads(asyncio.run(engine.query(TenantScope.of(TenantId("alpha")), kind, pairs)).body)
    assert answer["tier"] and answer["reason"] and answer["version"] >= 0
    if shown is not None:
        lacking = fields(shown) - fields(answer)
        assert {name for name in lacking if not name.startswith(".rows.group.")} == set()


def fields(told: Any, path: str = "") -> set[str]:
    """Paths of all fields, those of the first entry of a list standing for all."""
    if isinstance(told, list):
        return fields(told[0], path) if told else set()
    if not isinstance(told, dict):
        return {path}
    return {name for key, value in told.items() for name in fields(value, f"{path}.{key}")} | {path}


def test_the_page_of_measures_tells_what_the_measures_are() -> None:
    page = (DOCS / "measures.md").read_text()
    sections = {part.split("\n", 1)[0]: part for part in page.split("\n## ")[1:]}
    for name, measure in MEASURES.items():
        assert measure.meaning in sections[name] and f"- Unit: {measure.unit}\n" in sections[name]
        assert all(f"`{column}`" in sections[name] for column in measure.columns)
