"""Each published LLM trace through `llmhub ingest`: the hub's figures equal DuckDB's over the file, exactly."""

from __future__ import annotations

import pytest

from tests.journeys.local_hub import LocalHub
from tests.journeys.real_data import RATES, TRACES, Hub, Rates, Trace, compare, compare_rates, data_folder

DATA = data_folder()

pytestmark = [
    pytest.mark.journey,
    pytest.mark.skipif(not (DATA / "llm_requests").is_dir(), reason="no real data: set LLMHUB_TEST_DATA to its folder"),
]
# The largest file is for the script: it takes as long as all others together.
SMALL_RATES = [rates for rates in RATES if rates.file != "servegen_client_rates.parquet"]


@pytest.fixture(scope="module")
def target(hub: LocalHub) -> Hub:
    return Hub(hub.url, hub.key, hub.layout.data / "lake" / "local")


@pytest.mark.parametrize("trace", TRACES, ids=lambda trace: trace.file)
def test_requests_tokens_and_cost_by_model_and_hour_equal_the_file(trace: Trace, target: Hub) -> None:
    assert compare(trace, DATA, target)


@pytest.mark.parametrize("rates", SMALL_RATES, ids=lambda rates: rates.file)
def test_rates_become_as_many_metric_events_with_the_same_sum(rates: Rates, target: Hub) -> None:
    assert compare_rates(rates, DATA, target)


def test_a_file_sent_twice_is_counted_once(target: Hub) -> None:
    assert compare(TRACES[-1], DATA, target)
    assert compare(TRACES[-1], DATA, target)
