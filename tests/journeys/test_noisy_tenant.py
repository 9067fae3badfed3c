"""Beside a tenant over its quota another is never refused, and nothing of either is lost."""

from __future__ import annotations

import pytest

from tests.journeys.local_hub import LocalHub
from tests.journeys.noisy_tenant import run

pytestmark = [pytest.mark.journey, pytest.mark.timeout(900)]


def test_the_noisy_tenant_is_refused_and_the_quiet_one_never(hub: LocalHub) -> None:
    figures = run(hub, seconds=2.0, events_per_s=500, samples=1)
    noisy = figures["noisy"]
    assert set(noisy["statuses"]) == {202, 429}
    assert int(noisy["refusal"]["retry_after"]) >= 1
    assert noisy["refusal"]["code"] == "rate_limited"
    for half in ("quiet_alone", "quiet_beside"):
        assert set(figures[half]["statuses"]) == {202}
    assert figures["ledger"] == {"quiet_missing": 0, "noisy_missing": 0, "in_flight": 0, "difference": 0}
