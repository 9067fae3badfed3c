"""The law of the counts: whatever happens in whatever order, every recorded event is in exactly one number."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cluster.clock import ManualClock
from cluster.sdk.answers import Answer, NoAnswer
from cluster.sdk.batches import Batch, Encoder
from cluster.sdk.counts import Counts
from cluster.sdk.courier import Courier
from cluster.sdk.outbox import Outbox
from cluster.sdk.recording import Recording, Refused
from cluster.sdk.requests import Hub, Request, inflate
from cluster.sdk.retry import Backoff, Trouble
from cluster.sdk.spool import Entry, Spool

ANSWERS = ("taken", "taken", "cut", "busy", "away", "broken", "too_large", "page", "bad")


class FlakyHub:
    """Takes rows as a hub does, under their ids, or fails as it is told to."""

    def __init__(self) -> None:
        self.ids: Counter[str] = Counter()
        self.mood = "taken"
        self.meanwhile: Callable[[], object] | None = None

    def __call__(self, request: Request) -> Answer:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        encoding: Any = request.headers.get("Content-Encoding", "none")
        rows = [msgspec.json.decode(row) for row in inflate(request.body or b"", encoding).split(b"\n")]
        if self.mood == "away":
            raise NoAnswer("ConnectError: gone")
        if self.mood in ("busy", "broken", "bad"):
            return Answer({"busy": 429, "broken": 500, "bad": 400}[self.mood], b"{}", "1")
        if self.mood == "page":
            return Answer(200, b"<html>")
        if self.mood == "too_large" and len(rows) > 2:
            return Answer(413, b"{}")
        good = [row["event_id"] for row in rows if not row.get("bad")]
        fresh = sum(not self.ids[one] for one in good)
        self.ids.update(good)
        if self.mood == "cut":
            raise NoAnswer("ReadError: cut")
        told = {"accepted": fresh, "repeated": len(good) - fresh, "refused": len(rows) - len(good), "errors": []}
        return Answer(202, msgspec.json.encode(told))


class BusySpool(Spool):
    """A spool whose writing takes so long that the courier gets in between."""

    meanwhile: Callable[[], object] | None = None

    def append(self, batch: Batch) -> Entry:
        entry = super().append(batch)
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return entry


class Law(RuleBasedStateMachine):
    """One outbox, its packer and its courier, moved by hand; the process may be killed between any two moves."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = ManualClock()
        self.hub = FlakyHub()
        self.taken: set[str] = set()
        self.number = 0
        self.lost = self.dropped_ever = self.refused_ever = 0
        self.dropped = 0
        self.spool: BusySpool | None = None

    @initialize(
        policy=st.sampled_from(["drop_newest", "drop_oldest"]),
        spooled=st.booleans(),
        spool_bytes=st.sampled_from([700, 3_000, 1_000_000]),
    )
    def begin(self, policy: Any, spooled: bool, spool_bytes: int) -> None:
        self.recording = Recording(
            batch_events=4,
            queue_events=20,
            queue_bytes=3_000,
            spool=self.folder / "spool" if spooled else None,
            spool_bytes=spool_bytes,
            spool_after_s=1.0,
            spool_sync="never",
            when_full=policy,
        )
        self.start()

    def start(self) -> None:
        if self.number:
            counts = self.outbox.snapshot()
            self.dropped_ever += counts.dropped
            self.refused_ever += counts.refused
        recording = self.recording
        if recording.spool:
            self.spool = BusySpool(recording.spool, bytes_max=recording.spool_bytes, sync="never")
        self.encoder = Encoder(self.clock)
        self.outbox = Outbox(recording, clock=self.clock, compression="none", spool=self.spool)
        self.refused: list[Refused] = []
        self.dropped = 0
        self.courier = Courier(
            self.outbox,
            Hub("http://hub", None, "none"),
            self.hub,
            clock=self.clock,
            backoff=Backoff(lambda: 0.5),
            trouble=Trouble(),
            refused=self.refused.append,
            dropped=self.drop,
        )

    def drop(self, rows: int, reason: str) -> None:
        self.dropped += rows

    @rule(count=st.integers(1, 9), bad=st.booleans(), size=st.sampled_from([0, 100, 4_000]))
    def record(self, count: int, bad: bool, size: int) -> None:
        for _ in range(count):
            self.number += 1
            row = {"event_id": f"e-{self.number}", "occurred_at": 1, "bad": bad, "payload": "x" * size}
            taken, rows, reason = self.outbox.add(self.encoder.row(row))
            if taken:
                self.taken.add(f"e-{self.number}")
            if rows:
                self.drop(rows, reason)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(everything=st.booleans(), sending=st.booleans(), mood=st.sampled_from(ANSWERS))
    def pack(self, everything: bool, sending: bool, mood: str) -> None:
        self.hub.mood = mood
        if self.spool is not None and sending:
            self.spool.meanwhile = self.courier.deliver
        self.pack_now(everything)

    def pack_now(self, everything: bool) -> None:
        for rows, reason in self.outbox.pack(everything=everything):
            self.drop(rows, reason)

    @rule(mood=st.sampled_from(ANSWERS), packing=st.booleans())
    def deliver(self, mood: str, packing: bool) -> None:
        self.hub.mood = mood
        # The packer has its own thread: it may spool the very batch that is being sent.
        self.hub.meanwhile = (lambda: self.pack_now(True)) if packing else None
        before = self.outbox.snapshot()
        wait_s = self.courier.deliver()
        after = self.outbox.snapshot()
        self.hub.meanwhile = None
        assert wait_s is None or wait_s >= 0
        if mood in ("away", "busy", "page", "cut"):
            assert (after.acknowledged, after.refused) == (before.acknowledged, before.refused)

    @precondition(lambda self: self.spool is not None)
    @rule()
    def kill(self) -> None:
        counts = self.outbox.snapshot()
        assert self.spool is not None
        self.spool.abandon()
        self.lost += counts.pending
        self.start()
        assert self.outbox.snapshot().recovered == counts.spooled

    @rule()
    def close_and_start(self) -> None:
        self.outbox.stop()
        self.drop(self.outbox.close(), "closed")
        self.check(self.outbox.snapshot())
        assert self.outbox.snapshot().pending == 0
        self.start()

    @invariant()
    def law(self) -> None:
        if self.number:
            self.check(self.outbox.snapshot())

    def check(self, counts: Counts) -> None:
        assert counts.recorded == counts.accounted
        assert min(counts.pending, counts.spooled, counts.dropped) >= 0
        assert counts.dropped == sum(counts.dropped_for.values()) == self.dropped
        assert counts.pending <= self.recording.queue_events
        if self.spool is not None and not self.outbox.closed:
            assert self.spool.size_bytes <= self.recording.spool_bytes

    def teardown(self) -> None:
        if self.number:
            # However it went on: when the hub is well all that waits goes, and nothing else is there.
            self.hub.mood = "taken"
            self.pack_now(True)
            while self.courier.deliver() is not None:
                pass
            counts = self.outbox.snapshot()
            assert counts.settled
            self.check(counts)
            # Nothing is held for what is gone.
            assert self.outbox.add(b"x" * 3_000)[0]
            assert set(self.hub.ids) <= self.taken
            gone = self.lost + self.dropped_ever + self.refused_ever + counts.dropped + counts.refused
            assert len(self.taken) - len(self.hub.ids) <= gone
        if self.spool is not None:
            self.spool.close()
        shutil.rmtree(self.folder)


def test_a_batch_dropped_from_disk_while_it_is_sent_is_counted_once(tmp_path: Path) -> None:
    clock, hub = ManualClock(), FlakyHub()
    spool = Spool(tmp_path / "spool", bytes_max=700, sync="never")
    recording = Recording(batch_events=4, when_full="drop_oldest")
    outbox = Outbox(recording, clock=clock, compression="none", spool=spool)
    encoder = Encoder(clock)
    drops: list[tuple[int, str]] = []
    courier = Courier(
        outbox,
        Hub("http://hub", None, "none"),
        hub,
        clock=clock,
        backoff=Backoff(),
        trouble=Trouble(),
        refused=lambda refused: None,
        dropped=lambda rows, reason: drops.append((rows, reason)),
    )
    for number in range(8):
        outbox.add(encoder.row({"event_id": f"e-{number}", "payload": "x" * 80}))
    outbox.pack()
    outbox.pack()
    hub.meanwhile = lambda: drops.extend(outbox.pack(everything=True))
    courier.deliver()
    counts = outbox.snapshot()
    assert drops == [(4, "spool_full")]
    assert (counts.acknowledged, counts.spooled, counts.dropped, counts.pending) == (0, 4, 4, 0)
    spool.close()


Law.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLaw = Law.TestCase
