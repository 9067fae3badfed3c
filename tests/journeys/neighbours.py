"""Entities beside each other over a running hub: `python -m tests.journeys.neighbours [--json FILE]`.

Five days of calls of four entities are told, the detector is trained on them by `llmhub job` and promoted; then two
hours more are told, in which one entity is slow while the others are not. It must be found, with latency as what drove
it; windows of all of them are scored over HTTP with the same version. Exits 1 when one of it does not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import numpy as np

from infra.runtime import processes
from tests.bench.ingest import machine
from tests.journeys.life_cycle import job
from tests.journeys.local_hub import LocalHub, local_hub
from tests.models.anomaly.neighbours import DAY_ROWS, ENTITIES, ROW_US, calls_of, name_of

ROWS: Final = 5 * DAY_ROWS
_LATE_ROWS: Final = 24
_SLOW_ROWS: Final = 14
_BODY: Final = 5_000
_FOUND_WITHIN_S: Final = 900.0
CULPRIT: Final = name_of("search", "m")


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 all of it holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.journeys.neighbours", description=__doc__)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    figures: dict[str, Any] = {"machine": machine()}
    try:
        with tempfile.TemporaryDirectory() as folder, local_hub(Path(folder)) as hub:
            watched(hub, figures)
    finally:
        print(json.dumps(figures, indent=1))
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1))
    return 0 if all(value is not False for value in figures.values()) else 1


def watched(hub: LocalHub, figures: dict[str, Any]) -> None:
    """All of it, in order; figures as they come."""
    end_us = time.time_ns() // 1_000 // ROW_US * ROW_US
    start_us = end_us - ROWS * ROW_US
    figures["events_of_five_days"] = send(hub, start_us, range(ROWS - _LATE_ROWS))
    made = job(hub, "train_detector", "kind=neighbourhood", "from=-6d", "to=-2h", "budget=1")
    figures["training"] = {name: round(value, 3) for name, value in made["figures"].items()}
    verdict = job(hub, "promote", "kind=neighbourhood", "from=-6d", may_fail=True)
    figures["promoted"] = verdict["promoted"]
    if not verdict["promoted"]:
        figures["refused_because"] = verdict["reason"]
        return
    told_s = time.monotonic()
    send(hub, start_us, range(ROWS - _LATE_ROWS, ROWS))
    found: list[dict[str, Any]] = []

    def told() -> bool:
        answer = _get(hub, "/api/v1/anomalies?from=-3h&limit=500")["anomalies"]
        found[:] = [one for one in answer if one["detector"] == "neighbourhood"]
        return any(_entity(one) == CULPRIT for one in found)

    figures["found"] = processes.wait_until(told, deadline_s=_FOUND_WITHIN_S, every_s=2.0)
    figures["told_after_s"] = round(time.monotonic() - told_s, 1)
    figures["others_told"] = sum(_entity(one) != CULPRIT for one in found)
    [culprit] = [one for one in found if _entity(one) == CULPRIT] or [{"drivers": [{"measure": ""}]}]
    figures["latency_drives_it"] = str(culprit["drivers"][0]["measure"]).startswith("latency_ms")
    figures["http_names_the_version"] = scored(hub)["version"] == made["version"]


def send(hub: LocalHub, start_us: int, rows: range) -> int:
    """Tell the calls of some rows and wait until they are in tables."""
    events = list(_events(start_us, rows))
    with hub.client() as client:
        for at in range(0, len(events), _BODY):
            receipt = client.post_events(events[at : at + _BODY])
            assert receipt.refused == 0, receipt

        def settled() -> bool:
            total = client.get("/api/v1/ledger")["total"]
            return bool(total["in_flight"] == total["difference"] == 0)

        assert processes.wait_until(settled, deadline_s=120.0, every_s=0.5)
    return len(events)


def _events(start_us: int, rows: range) -> Iterator[dict[str, Any]]:
    for row in rows:
        for one in calls_of(row, start_us=start_us, slow=(ROWS - _SLOW_ROWS, ROWS)):
            yield {name: value for name, value in one.items() if name != "counted"} | {
                "occurred_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(str(one["occurred_at"])) // 10**6)),
                "module": "gateway",
                "status": "ok",
            }


def scored(hub: LocalHub) -> dict[str, Any]:
    """The last row of plain windows of all entities, over HTTP."""
    headers = {"authorization": f"Bearer {hub.key}"}
    told = _get(hub, "/api/v1/detectors")["detectors"]
    [champion] = [one["champion"] for one in told if one["detector"] == "neighbourhood"]
    body: dict[str, Any] = {"detector": "neighbourhood", "entity": [name_of(*one) for one in ENTITIES]}
    for features in range(1, 15):
        body["windows"] = np.ones((len(ENTITIES), 160, features)).tolist()
        answer = httpx2.post(f"{hub.url}/api/v1/score", json=body, headers=headers, timeout=60)
        if answer.status_code == 200:
            found: dict[str, Any] = answer.json()
            return found
    raise AssertionError(f"version {champion['version']} answers {answer.status_code}: {answer.text[:300]}")


def _entity(one: dict[str, Any]) -> str:
    return ",".join(f"{name}={value}" for name, value in one["dimensions"].items())


def _get(hub: LocalHub, path: str) -> Any:
    answer = httpx2.get(f"{hub.url}{path}", headers={"authorization": f"Bearer {hub.key}"}, timeout=60)
    assert answer.status_code == 200, answer.text[:300]
    return answer.json()


if __name__ == "__main__":
    sys.exit(main())
