"""The client for an event loop: the same answers, and a loop that is never held up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from cluster.errors import BodyUnreadable, RequestInvalid
from cluster.sdk.async_client import AsyncHubClient
from cluster.sdk.client import HubRefused, HubUnreachable, Recording
from tests.cluster.sdk import hub_door
from tests.cluster.sdk.events import KEY, event
from tests.cluster.sdk.hub_door import Door


@pytest.fixture
def door() -> Iterator[Door]:
    with Door() as open_door:
        yield open_door


def client_of(door: Door, deadline_s: float = 60.0) -> AsyncHubClient:
    return AsyncHubClient(
        door.url, KEY, deadline_s=deadline_s, chance=lambda: 0.05, recording=Recording(batch_age_s=0.01)
    )


def test_events_are_recorded_in_the_background(door: Door) -> None:
    async def work() -> None:
        async with client_of(door) as client:
            assert all(client.record(event(number)) for number in range(200))
            counts = await client.flush()
            assert (counts.acknowledged, client.counts.settled) == (200, True)

    asyncio.run(work())
    assert set(door.ids.values()) == {1}


def test_the_loop_goes_on_while_it_flushes(door: Door) -> None:
    door.turns += [hub_door.busy(1.0)]

    async def work() -> None:
        async with client_of(door) as client:
            client.record(event(1))
            flush = asyncio.create_task(client.flush())
            turns = 0
            while not flush.done():
                await asyncio.sleep(0)
                turns += 1
            assert turns > 1
            assert (await flush).acknowledged == 1

    asyncio.run(work())


def test_direct_calls_try_again_and_give_up(door: Door) -> None:
    door.turns += [hub_door.plain(502), hub_door.cut, hub_door.busy(0.0)]

    async def work() -> None:
        async with client_of(door) as client:
            receipt = await client.post_events([event(1), event(2, input_tokens=-1)])
            assert (receipt.repeated, receipt.refused, client.trouble.retries) == (1, 1, 3)
            door.turns.append(hub_door.refused_with(BodyUnreadable("no rows")))
            with pytest.raises(HubRefused) as refused:
                await client.post_events([event(3)])
            assert refused.value.code == "body_unreadable"
        door.always = hub_door.unavailable()
        async with client_of(door, deadline_s=0.5) as client:
            with pytest.raises(HubUnreachable):
                await client.post_events([event(4)])

    asyncio.run(work())


def test_questions(door: Door) -> None:
    async def work() -> None:
        async with client_of(door) as client:
            answer = await client.timeseries("cost_usd", group_by=["model"], from_="-7d", to=None)
            assert answer == {
                "asked": {"kind": "timeseries", "measure": ["cost_usd"], "group_by": ["model"], "from": "-7d"}
            }
            answer = await client.aggregate("request_count", limit=5)
            assert answer["asked"] == {"kind": "aggregate", "measure": ["request_count"], "limit": 5}

    asyncio.run(work())


def test_blocking_is_not_for_a_loop(door: Door) -> None:
    with pytest.raises(RequestInvalid, match="event loop"):
        AsyncHubClient(door.url, KEY, recording=Recording(when_full="block"))
