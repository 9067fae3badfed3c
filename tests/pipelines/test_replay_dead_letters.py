"""Refused rows shown and sent again: once what was wrong is mended they are in, and no run sends them twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

# ruff: noqa: I001 -- before anything that imports Ray Serve.
from tests.serving.conftest import SMALL, Hub, event, start
from cluster.clock import SystemClock
from cluster.metadata.replays import ReplayStore
from cluster.metadata.schema import open_metadata
from cluster.sdk.client import HubClient
from cluster.tenancy import DEFAULT_TENANT, TenantScope
from pipelines.replay_dead_letters import main, replay


@pytest.fixture
def asking(tmp_path: Path) -> Iterator[Hub]:
    yield from start(replace(SMALL, data=tmp_path, refresh_s=0.05), asks=True)


def _client(hub: Hub, key: str) -> HubClient:
    def answered(request: httpx2.Request) -> httpx2.Response:
        headers = {name: value for name, value in request.headers.items() if name not in ("host", "content-length")}
        target = str(request.url.copy_with(scheme="http", host="hub.test", port=None))
        answer = asyncio.run(hub.send(request.method, target, content=request.read(), headers=headers))
        # Read already, and so no longer encoded.
        told = {name: value for name, value in answer.headers.items() if name != "content-encoding"}
        return httpx2.Response(answer.status_code, content=answer.content, headers=told)

    return HubClient("http://hub.test", key, compression="none", transport=httpx2.MockTransport(answered))


async def _committed(hub: Hub, letters: int) -> None:
    """Wait until so many dead letters are in the table."""
    engine = hub.app.state.query
    async with asyncio.timeout(30):
        while True:
            told = await engine.ledger_committed(TenantScope.of(DEFAULT_TENANT))
            if told["tenants"]["default"]["dead_letters"] >= letters:
                return
            await asyncio.sleep(0.02)


def _nameless(number: int) -> dict[str, Any]:
    """A row that lacks its module."""
    return {name: value for name, value in event(number, kind="request").items() if name != "module"}


def test_what_was_mended_is_taken_once_and_what_is_still_bad_comes_again(asking: Hub) -> None:
    key = asking.key("ingest", "read")
    bad = {**_nameless(999), "occurred_at": "never"}
    sent = asking.post([*(_nameless(number) for number in range(250)), bad, bad], key=key).json()
    assert (sent["accepted"], sent["refused"]) == (0, 252)
    asking.run(_committed(asking, 252))
    first = asking.call("GET", "/api/v1/dead-letters?limit=200", key=key).json()
    assert sum(one["count"] for one in first["by_reason"]) == 252
    then = asking.call("GET", f"/api/v1/dead-letters?limit=200&cursor={first['next_cursor']}", key=key).json()
    assert (len(first["dead_letters"]), len(then["dead_letters"]), then["next_cursor"]) == (200, 52, None)
    letters = first["dead_letters"] + then["dead_letters"]
    assert sorted(one["row_index"] for one in letters) == list(range(252))
    assert all(json.loads(one["original"])["event_id"].startswith("e-") for one in letters)

    clock = SystemClock()
    database = open_metadata(asking.settings, clock)
    client, store = _client(asking, key), ReplayStore(database, clock)
    report = replay(client, store, DEFAULT_TENANT, {"module": "gateway"})
    counts = {name: report[name] for name in ("found", "same_content", "sent", "accepted", "repeated", "refused")}
    assert counts == {
        "found": 252,
        "same_content": 1,
        "sent": 251,
        "accepted": 250,
        "repeated": 0,
        "refused": 1,
    }
    asking.run(_committed(asking, 253))
    again = replay(client, store, DEFAULT_TENANT, {"module": "gateway"})
    assert (again["found"], again["replayed_before"], again["sent"], again["refused"]) == (253, 250, 1, 1)
    client.close()
    database.close()
    asking.pool.drain_shards()
    account = asking.run(asking.pool.ledger())["default"]
    assert (account.accepted, account.repeated, account.difference) == (250, 0, 0)
    # Both runs sent the bad row at another place than before, or at the same, where it is known already.
    assert account.dead_letters >= 253


def test_filters_and_refusals_of_the_route(asking: Hub) -> None:
    key = asking.key("ingest", "read")
    asking.post([{**event(1), "occurred_at": "never"}], key=key)
    asking.post(b"\xff\xfe{", key=key)
    asking.run(_committed(asking, 2))
    both = asking.call("GET", "/api/v1/dead-letters", key=key).json()
    assert [one["is_complete"] for one in both["dead_letters"]] == [True, True]
    assert sum("original_base64" in one for one in both["dead_letters"]) == 1
    for reason in both["by_reason"]:
        only = asking.call("GET", f"/api/v1/dead-letters?reason_code={reason['reason_code']}", key=key).json()
        assert {one["reason_code"] for one in only["dead_letters"]} == {reason["reason_code"]}
    assert asking.call("GET", "/api/v1/dead-letters?source=otlp.traces", key=key).json()["dead_letters"] == []
    asking.tenants.create("other", organisation_id="operator")
    foreign = asking.call("GET", "/api/v1/dead-letters", key=asking.key("read", tenant="other")).json()
    assert (foreign["dead_letters"], foreign["by_reason"]) == ([], [])
    for query in ("limit=201", "limit=0", "reason=x", "cursor=x", "from=never"):
        assert asking.call("GET", f"/api/v1/dead-letters?{query}", key=key).status_code == 422
    asking.tenants.create_project(DEFAULT_TENANT, "north")
    narrow = asking.key("read", project="north")
    assert asking.call("GET", "/api/v1/dead-letters", key=narrow).status_code == 403
    assert asking.call("GET", "/api/v1/dead-letters", key=asking.key("ingest")).status_code == 403


@pytest.mark.parametrize(
    "words", [[], ["--set", "tenant"], ["--set", "tenant=A!"], ["--set", "tenant=a", "--set", "x=1"]]
)
def test_wrong_usage_exits_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
