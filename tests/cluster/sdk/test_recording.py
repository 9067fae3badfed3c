"""record(): what reaches a real port, how often, and what the counts say of it."""

from __future__ import annotations

import gzip
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import BodyTooLarge, MediaTypeUnsupported, RequestInvalid
from cluster.sdk.client import Counts, HubClient, Recording, Refused
from tests.cluster.sdk import hub_door
from tests.cluster.sdk.events import KEY, event
from tests.cluster.sdk.hub_door import Door


@pytest.fixture
def door() -> Iterator[Door]:
    with Door() as open_door:
        yield open_door


def client_of(door: Door, **how: Any) -> HubClient:
    return HubClient(
        door.url, KEY, timeout_s=20.0, chance=lambda: 0.05, recording=Recording(**{"batch_age_s": 0.01, **how})
    )


def lawful(counts: Counts) -> Counts:
    assert counts.recorded == counts.accounted
    return counts


def test_every_event_arrives_once(door: Door) -> None:
    with client_of(door, batch_events=100) as client:
        assert all(client.record(event(number)) for number in range(1_000))
        counts = lawful(client.flush())
    assert (counts.recorded, counts.acknowledged, counts.settled) == (1_000, 1_000, True)
    assert [one for body in door.bodies for one in body] == [f"e-{number}" for number in range(1_000)]
    # A few events that a slow machine sends on their own are too small to be worth it.
    assert "zstd" in {headers.get("content-encoding") for _, _, headers, _ in door.requests} <= {"zstd", None}


def test_an_event_gets_an_id_and_a_time_of_its_own(door: Door) -> None:
    row = {"module": "gateway", "kind": "gateway.request"}
    with client_of(door) as client, client_of(door) as other:
        for _ in range(50):
            client.record(row)
            other.record(row)
        client.record({**row, "timestamp": "2025-01-01T00:00:00Z", "eventid": "mine"})
        client.flush()
        other.flush()
    assert row == {"module": "gateway", "kind": "gateway.request"}
    assert len(door.ids) == 101 and set(door.ids.values()) == {1}
    (mine,) = (one for one in door.rows if one["event_id"] == "mine")
    assert mine["occurred_at"].year == 2025


def test_an_event_is_what_it_was_when_it_was_recorded(door: Door) -> None:
    row = event(1)
    with client_of(door) as client:
        client.record(row)
        row["model"] = "changed"
    assert [one["model"] for one in door.rows] == ["m-1"]


def test_threads_record_at_once(door: Door) -> None:
    with client_of(door, batch_events=64) as client:
        threads = [
            threading.Thread(target=lambda first=first: [client.record(event(first + n)) for n in range(200)])
            for first in range(0, 1_600, 200)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert lawful(client.flush()).acknowledged == 1_600
    assert set(door.ids.values()) == {1}


@pytest.mark.parametrize("turn", [hub_door.busy(1.0), hub_door.unavailable()])
def test_retry_after_is_kept(door: Door, turn: hub_door.Turn) -> None:
    door.turns.append(turn)
    with client_of(door) as client:
        client.record(event(1))
        assert client.flush().acknowledged == 1
        assert client.trouble.retries == 1
    first, second = (at for at, *_ in door.requests)
    assert second - first >= 1.0


def test_an_answer_cut_in_the_middle_doubles_nothing(door: Door) -> None:
    door.turns.append(hub_door.cut)
    with client_of(door, batch_events=30) as client:
        for number in range(30):
            client.record(event(number))
        counts = lawful(client.flush())
    assert (counts.acknowledged, counts.repeated) == (0, 30)
    assert len(door.rows) == 30
    assert door.requests[0][3] == door.requests[1][3]


def test_a_page_in_the_hubs_place_acknowledges_nothing(door: Door) -> None:
    door.turns.append(hub_door.plain(200))
    with client_of(door) as client:
        client.record(event(1))
        assert client.flush().acknowledged == 1
    assert len(door.requests) == 2


def test_refused_rows_are_told_by_index_code_and_id(door: Door) -> None:
    heard: list[Refused] = []
    with client_of(door, batch_age_s=60.0, on_refused=heard.append) as client:
        client.record(event(0))
        client.record(event(1, input_tokens=-4))
        client.record(event(2))
        client.record({"event_id": "e-3"})
        counts = lawful(client.flush())
    assert (counts.acknowledged, counts.refused) == (2, 2)
    assert [(one.index, one.code, one.event_id) for one in heard] == [
        (1, "tokens_out_of_range", "e-1"),
        (3, "kind_missing", "e-3"),
    ]
    assert all(one.message for one in heard)


def test_a_body_over_the_limit_is_sent_in_pieces(door: Door) -> None:
    def small(hub: Door, body: bytes) -> hub_door.Answer | None:
        return hub_door.refused_with(BodyTooLarge("too large"))(hub, body) if len(body) > 1_500 else None

    door.always = small
    heard: list[Refused] = []
    with client_of(door, batch_age_s=60.0, on_refused=heard.append) as client:
        for number in range(40):
            client.record(event(number, payload="x" * 3_000) if number == 17 else event(number))
        counts = lawful(client.flush())
    assert (counts.acknowledged + counts.repeated, counts.refused) == (39, 1)
    assert [(one.index, one.code, one.event_id) for one in heard] == [(17, "body_too_large", "e-17")]
    assert len(door.rows) == 39


def test_one_event_the_hub_fails_at_does_not_hold_up_the_others(door: Door) -> None:
    def fails(hub: Door, body: bytes) -> hub_door.Answer | None:
        return hub_door.plain(500)(hub, body) if b'"e-5"' in body else None

    door.always = fails
    heard: list[Refused] = []
    with HubClient(
        door.url,
        KEY,
        chance=lambda: 0.0,
        recording=Recording(batch_age_s=60.0, on_refused=heard.append),
    ) as client:
        for number in range(16):
            client.record(event(number))
        counts = lawful(client.flush())
    assert (counts.acknowledged + counts.repeated, counts.refused) == (15, 1)
    assert [one.event_id for one in heard] == ["e-5"]


def test_a_refusal_of_the_whole_body_is_told_for_its_rows(door: Door) -> None:
    door.turns.append(hub_door.plain(400))
    heard: list[Refused] = []
    with client_of(door, batch_age_s=60.0, on_refused=heard.append) as client:
        for number in range(3):
            client.record(event(number))
        assert lawful(client.flush()).refused == 3
    assert [one.event_id for one in heard] == ["e-0", "e-1", "e-2"]


def test_a_wrong_key_loses_nothing(door: Door) -> None:
    door.key = "another"
    with client_of(door) as client:
        client.record(event(1))
        door.wait_for_requests(2)
        assert lawful(client.counts).pending == 1
        door.key = KEY
        assert client.flush().acknowledged == 1


@pytest.mark.parametrize("how", ["missing", "unsupported"])
def test_gzip_stands_in_for_zstd(door: Door, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "missing":
        monkeypatch.setitem(sys.modules, "zstandard", None)
    else:
        door.turns.append(hub_door.refused_with(MediaTypeUnsupported("no zstd")))
    with client_of(door, batch_events=50, batch_age_s=60.0) as client:
        for number in range(100):
            client.record(event(number))
        assert client.flush().acknowledged == 100
    *_, headers, body = door.requests[how == "unsupported"]
    assert headers["content-encoding"] == "gzip"
    assert gzip.decompress(body).count(b"\n") == 49


def test_what_has_no_form_in_json_is_refused_at_once(door: Door) -> None:
    heard: list[Refused] = []
    nested: dict[str, Any] = {}
    nested["self"] = nested
    with client_of(door, on_refused=heard.append) as client:
        assert not client.record(event(1, attributes={"lock": threading.Lock()}))
        assert not client.record(event(2, payload=nested))
        assert not client.record(["no", "event"])  # type: ignore[arg-type]
        assert lawful(client.counts).refused == 3
    assert [one.code for one in heard] == ["not_encodable"] * 3


@pytest.mark.parametrize(("policy", "kept"), [("drop_newest", range(10)), ("drop_oldest", range(15, 25))])
def test_a_full_queue_drops_and_tells(door: Door, policy: Any, kept: range) -> None:
    drops: list[tuple[int, str]] = []
    how = {"queue_events": 10, "when_full": policy, "batch_age_s": 60.0, "on_dropped": lambda *told: drops.append(told)}
    with client_of(door, **how) as client:
        taken = [client.record(event(number)) for number in range(25)]
        counts = lawful(client.flush())
    assert sum(taken) == (10 if policy == "drop_newest" else 25)
    assert (counts.acknowledged, counts.dropped, counts.dropped_for) == (10, 15, {"queue_full": 15})
    assert drops == [(1, "queue_full")] * 15
    assert list(door.ids) == [f"e-{number}" for number in kept]


def test_blocking_waits_for_room_and_loses_nothing(door: Door) -> None:
    with client_of(door, queue_events=10, batch_events=5, when_full="block") as client:
        assert all(client.record(event(number)) for number in range(500))
        assert lawful(client.flush()).acknowledged == 500


def test_close_lets_a_blocked_thread_go(door: Door) -> None:
    door.always = hub_door.busy(30.0)
    client = client_of(door, queue_events=1, when_full="block")
    client.record(event(0))
    answers: list[bool] = []
    blocked = threading.Thread(target=lambda: answers.append(client.record(event(1))))
    blocked.start()
    client.close(0.0)
    blocked.join()
    assert answers == [False]
    assert lawful(client.counts).dropped_for == {"closed": 2}


def test_a_large_event_never_waits_for_room_that_cannot_come(door: Door) -> None:
    with client_of(door, queue_bytes=1_000, when_full="block") as client:
        assert not client.record(event(1, payload="x" * 2_000))
        assert lawful(client.counts).dropped_for == {"queue_full": 1}


def test_close_tells_what_was_lost(door: Door) -> None:
    door.shut()
    client = client_of(door)
    for number in range(7):
        client.record(event(number))
    counts = lawful(client.close(0.05))
    assert (counts.dropped_for, counts.pending) == ({"closed": 7}, 0)
    assert not client.record(event(8))
    assert lawful(client.close()).dropped_for == {"closed": 8}


def test_a_callback_that_raises_ends_nothing(door: Door) -> None:
    def raises(*_: object) -> None:
        raise RuntimeError("the application's own")

    with client_of(door, on_refused=raises, on_dropped=raises, queue_events=2, batch_age_s=60.0) as client:
        client.record({"event_id": "bad"})
        client.record(event(1))
        client.record(event(2))
        client.flush()
        client.record(event(3))
        counts = lawful(client.flush())
    assert (counts.acknowledged, counts.refused, counts.dropped) == (2, 1, 1)


def test_the_log_quotes_no_event_and_no_key(door: Door, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    secret = "the patient said"
    door.turns += [hub_door.busy(0.0), hub_door.plain(500, secret.encode()), hub_door.cut]
    with caplog.at_level(logging.DEBUG), client_of(door, queue_events=3, spool=tmp_path / "spool") as client:
        client.record({"event_id": secret, "module": secret})
        client.record(event(1, payload={"prompt": secret, "lock": threading.Lock()}))
        for number in range(9):
            client.record(event(number, payload={"prompt": secret}))
        client.flush()
    assert "were refused: " in caplog.text and "dropped" in caplog.text and "they wait" in caplog.text
    assert secret not in caplog.text and KEY not in caplog.text
    assert KEY not in repr(client)


def test_bounds_that_cannot_hold_are_refused() -> None:
    for wrong in ({"batch_events": 0}, {"spool_bytes": -1}, {"close_s": -1.0}, {"when_full": "wait"}):
        with pytest.raises(RequestInvalid, match=next(iter(wrong))):
            Recording(**wrong)  # type: ignore[arg-type]
