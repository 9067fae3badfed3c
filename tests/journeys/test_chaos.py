"""A few faults in a row here, and what a running hub cannot be made to do: clocks that jump, the same seal committed
by two committers at once. `llmhub bench chaos` makes hundreds of them."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import pytest

from actors.committer import Committer
from actors.intake import Buffer, Counts, Seal
from actors.memory import Memory
from actors.sealer import stage_buffer
from actors.shard import Shard
from cluster.clock import SystemClock
from cluster.errors import CommitLost
from cluster.lake.counts import CommittedCounts
from cluster.settings import Settings
from cluster.tenancy import DEFAULT_TENANT
from tests.actors.batches import events
from tests.journeys.chaos import is_sound, plan, run
from tests.journeys.chaos_checks import differences
from tests.journeys.chaos_faults import FAULTS, HOUR_S, ON_SMALL_DISK
from tests.journeys.chaos_senders import Told

SEALS = 12


@pytest.mark.journey
@pytest.mark.timeout(900)
def test_nothing_acknowledged_is_lost_or_doubled_over_faults_in_a_row(tmp_path: Path) -> None:
    kinds = ["kill shard", "torn journal tail", "bit flip in committed segment", "two committers", "bad rows"]
    figures = run(tmp_path, kinds, seed=7)
    assert is_sound(figures), figures
    assert [figures["by_kind"][kind]["count"] for kind in kinds] == [1] * len(kinds)


def test_a_seed_decides_the_faults_and_every_kind_has_its_turn() -> None:
    assert plan(3, 80, has_disk=True) == plan(3, 80, has_disk=True) != plan(4, 80, has_disk=True)
    deck = sum(weight for _, weight in FAULTS.values())
    assert Counter(plan(3, deck, has_disk=True)) == {kind: weight for kind, (_, weight) in FAULTS.items()}
    assert not ON_SMALL_DISK & set(plan(3, 80, has_disk=False))


def test_two_committers_at_once_commit_the_same_seals_once(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, commit_linger_s=0.0)
    settings.lake.mkdir(parents=True)
    committers = [Committer(settings, clock=SystemClock()) for _ in range(2)]
    told, seals = Told(), []
    for sequence in range(1, SEALS + 1):
        names = [f"{sequence}-{row}" for row in range(5)]
        rows, keys = Memory(100).take_events(events(names, request_id=names, status="ok"), DEFAULT_TENANT)
        buffer = Buffer(sequence)
        buffer.add(DEFAULT_TENANT, rows, keys, dead=False, size_bytes=1, now_s=0.0)
        told.acknowledged.update(names)
        totals = {str(DEFAULT_TENANT): 5 * sequence}
        seals.append(Seal(0, 1, "shared", sequence, stage_buffer(settings.lake, buffer), totals))
    together = threading.Barrier(2)

    def commit_all(committer: Committer) -> None:
        for seal in seals:
            together.wait(timeout=60)
            done = False
            while not done:
                try:
                    done = committer.commit(seal) >= seal.sequence
                except CommitLost:
                    # What a shard does: the seal is sent again, and the table tells that it is in.
                    continue

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(commit_all, committers))
    for committer in committers:
        committer.drain()
    count = 5 * SEALS
    ledger = {"accepted": count, "committed": count, "difference": 0, "in_flight": 0}
    assert differences(settings.lake, told, ledger) == []


class _JumpingClock(SystemClock):
    """Wall time is wrong by `offset_s`; monotonic time is what it is."""

    offset_s = 0.0

    def now_us(self) -> int:
        return super().now_us() + int(self.offset_s * 1e6)


def test_clocks_that_jump_an_hour_both_ways_lose_and_double_nothing(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, seal_age_s=0.05, commit_linger_s=0.0, rollover_s=0.05)
    random, told, clock, counts = Random(5), Told(), _JumpingClock(), Counts()
    committer = Committer(settings, clock=clock)
    shard = Shard(settings, 0, shards=1, commits=committer, clock=clock)
    sent: list[list[str]] = []
    for number in range(40):
        clock.offset_s = random.choice((-HOUR_S, 0.0, HOUR_S))
        names = random.choice(sent) if sent and random.random() < 0.3 else [f"{number}-{row}" for row in range(5)]
        accepted, repeated = shard.admit(DEFAULT_TENANT, events(names, request_id=names, status="ok").serialize(), None)
        assert (accepted, repeated) == ((0, 5) if names in sent else (5, 0))
        sent.append(names)
        told.acknowledged.update(names)
        counts.accepted += accepted
        if number % 10 == 9:
            shard.drain()
            shard = Shard(settings, 0, shards=1, commits=committer, clock=clock)
    shard.drain()
    committer.drain()
    committed = CommittedCounts(settings.lake).newest([]).rows[DEFAULT_TENANT]
    ledger = {"accepted": counts.accepted, "committed": committed, "difference": 0, "in_flight": 0}
    assert differences(settings.lake, told, ledger) == []
