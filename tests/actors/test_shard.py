"""A shard with a real journal, a real committer and real Delta tables."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from actors.accounts import settle
from actors.committer import Committer
from actors.intake import Counts, Registration, Seal
from actors.journal import EVENTS, Journal, Record, segment_path
from actors.keys import KeyFile, recall
from actors.memory import Memory
from actors.recovery import recover, write_totals
from actors.shard import Shard
from cluster.clock import SystemClock
from cluster.errors import Fenced, HubError, ShardFull, Unavailable
from cluster.lake.counts import CommittedCounts
from cluster.settings import Settings
from cluster.tenancy import DEFAULT_TENANT
from tests.actors.batches import dead_letters, events


class Hub:
    """One committer and one shard over a folder; `crash` forgets the shard as a kill -9 would."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.committer = Committer(settings, clock=SystemClock())
        self.shard = self._shard()

    def _shard(self) -> Shard:
        return Shard(self.settings, 0, shards=1, commits=self.committer, clock=SystemClock())

    def admit(self, batch: pa.RecordBatch, dead: pa.RecordBatch | None = None) -> tuple[int, int]:
        return self.shard.admit("default", batch.serialize(), dead.serialize() if dead else None)

    def restart(self) -> None:
        self.shard.drain()
        self.shard = self._shard()

    def stop(self) -> None:
        self.shard.drain()
        self.committer.drain()

    def ids(self) -> list[str]:
        return sorted(
            DeltaTable(str(self.settings.lake / "events"))
            .to_pyarrow_table(columns=["event_id"])["event_id"]
            .to_pylist()
        )

    def account(self) -> dict[str, int]:
        positions = self.committer.positions()
        ledger = self.shard.ledger()
        committed = CommittedCounts(self.settings.lake).newest(sorted({*positions, str(ledger["journal"])}))
        return settle([self.shard.ledger()], positions, committed)["default"].as_dict()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path, seal_age_s=0.05, commit_linger_s=0.0)


@pytest.fixture
def hub(settings: Settings) -> Iterator[Hub]:
    hub = Hub(settings)
    yield hub
    hub.stop()


def test_accepted_rows_are_committed_once_and_repeats_are_told(hub: Hub) -> None:
    assert hub.admit(events(["a", "b", "a"])) == (2, 1)
    assert hub.admit(events(["b", "c"])) == (1, 1)
    hub.restart()
    assert hub.admit(events(["a", "d"])) == (1, 1)
    hub.restart()
    assert hub.ids() == ["a", "b", "c", "d"]
    account = hub.account()
    assert (account["accepted"], account["committed"], account["difference"]) == (4, 4, 0)


def test_dead_letters_are_kept_once(hub: Hub) -> None:
    hub.admit(events(["a"]), dead_letters(["x", "y"]))
    hub.admit(events(["b"]), dead_letters(["y", "z"]))
    hub.restart()
    table = DeltaTable(str(hub.settings.lake / "dead_letters")).to_pyarrow_table()
    assert sorted(table["dead_letter_id"].to_pylist()) == ["x", "y", "z"]
    assert hub.account()["dead_letters"] == 3


def test_a_seal_that_comes_again_after_its_commit_writes_nothing(hub: Hub) -> None:
    hub.admit(events(["a"]))
    hub.restart()
    before = hub.committer.status()["versions"]
    ((journal, notes),) = hub.committer.positions().items()
    sequence, accepted = notes[-1]
    assert hub.committer.commit(Seal(0, 99, journal, sequence, (), accepted)) == sequence
    assert hub.committer.status()["versions"] == before
    assert hub.ids() == ["a"]


def test_a_gap_in_the_sequence_is_refused(hub: Hub) -> None:
    with pytest.raises(HubError, match="came after 0"):
        hub.committer.commit(Seal(7, 1, "another-journal", 2, (), {}))


def test_a_full_shard_refuses_before_the_journal(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, seal_age_s=60.0, seal_bytes=2_000, shard_buffer_bytes=4_000)
    hub = Hub(settings)
    with pytest.raises(ShardFull) as refused:
        hub.admit(events([f"e{n}" for n in range(500)]))
    assert refused.value.retry_after_s > 0
    assert hub.admit(events(["small"])) == (1, 0)
    hub.stop()
    assert hub.ids() == ["small"]


def test_a_draining_shard_refuses(settings: Settings) -> None:
    hub = Hub(settings)
    hub.admit(events(["a"]))
    hub.stop()
    with pytest.raises(Unavailable):
        hub.admit(events(["b"]))
    assert hub.ids() == ["a"]


def test_many_threads_share_one_journal(hub: Hub) -> None:
    def send(worker: int) -> int:
        return sum(hub.admit(events([f"{worker}-{n}-{m}" for m in range(20)]))[0] for n in range(10))

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(send, range(8))) == 8 * 10 * 20
    hub.restart()
    assert len(hub.ids()) == len(set(hub.ids())) == 1600


def test_acknowledged_means_committed_when_asked_for(tmp_path: Path) -> None:
    hub = Hub(Settings(data=tmp_path, ack="commit", seal_age_s=0.05, commit_linger_s=0.0))
    assert hub.admit(events(["a", "b"])) == (2, 0)
    assert hub.ids() == ["a", "b"]
    assert hub.admit(events(["a", "b"])) == (0, 2)
    hub.stop()


def _flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)


def test_damage_in_a_committed_segment_loses_nothing_and_stops_nobody(settings: Settings) -> None:
    hub = Hub(settings)
    hub.admit(events(["a"]))
    hub.restart()
    _flip(min(settings.journals.rglob("*.wal")), 40)
    hub.restart()
    assert hub.admit(events(["a", "b"])) == (1, 1)
    hub.stop()
    assert hub.ids() == ["a", "b"]


def test_damage_in_committed_segments_leaves_no_count_short(settings: Settings) -> None:
    hub = Hub(settings)
    for name in ("a", "b", "c"):
        hub.admit(events([name, f"{name}-2"]), dead_letters([f"{name}-bad"]))
        hub.restart()
    for path in sorted(settings.journals.rglob("*.wal"))[:2]:
        _flip(path, path.stat().st_size // 2)
    hub.restart()
    account = hub.account()
    assert (account["accepted"], account["committed"], account["difference"]) == (6, 6, 0)
    assert account["dead_letters"] == 3
    # The last committed segment too, which only the open one can vouch for.
    _flip(sorted(settings.journals.rglob("*.wal"))[-2], 200)
    hub.restart()
    assert hub.admit(events(["a", "b", "c", "d"])) == (1, 3)
    hub.restart()
    account = hub.account()
    assert (account["accepted"], account["committed"], account["difference"]) == (7, 7, 0)
    hub.stop()


def test_a_damaged_segment_from_before_the_last_trim_sets_no_sequence_back(settings: Settings) -> None:
    folder = settings.journals / "shard-00000" / "feed"
    journal = Journal(folder)
    journal.open_segment(3)
    journal.append(Record(EVENTS, "default", 1, events(["a"]).serialize()))
    journal.seal_segment()
    journal.close()
    _flip(segment_path(folder, 3), 40)
    write_totals(folder, 5, {"default": Counts(accepted=9)})
    found = recover(folder, Memory(100), committed=lambda _: 5)
    found.journal.close()
    assert (found.next_sequence, found.totals["default"].accepted, found.corrupt) == (6, 9, None)


def test_keys_stay_in_step_behind_a_torn_row(tmp_path: Path) -> None:
    keys = Memory(100).take_events(events(["a", "b"]), DEFAULT_TENANT)[1]
    file = KeyFile(tmp_path, 100)
    file.append(keys)
    file.close()
    (torn,) = tmp_path.glob("keys-*.bin")
    torn.write_bytes(torn.read_bytes()[:-7])
    again = KeyFile(tmp_path, 100)
    again.append(Memory(100).take_events(events(["c"]), DEFAULT_TENANT)[1])
    again.close()
    memory = Memory(100)
    recall(tmp_path, memory)
    assert memory.take_events(events(["a", "c", "d"]), DEFAULT_TENANT)[0].column("event_id").to_pylist() == ["d"]


def test_a_damaged_journal_stops_its_shard_and_loses_nothing_before_the_damage(settings: Settings) -> None:
    folder = settings.journals / "shard-00000" / "feed"
    journal = Journal(folder)
    for sequence, name in ((1, "a"), (2, "b"), (3, "c")):
        journal.open_segment(sequence)
        journal.append(Record(EVENTS, "default", 1, events([name]).serialize()))
        journal.seal_segment()
    journal.close()
    _flip(segment_path(folder, 3), 40)
    again = Hub(settings)
    assert again.shard.state == "stopped"
    assert "is damaged at byte 0" in again.shard.reason
    with pytest.raises(Unavailable, match="is damaged"):
        again.admit(events(["d"]))
    again.stop()
    assert again.ids() == ["a", "b"]
    assert segment_path(folder, 3).exists()


def test_admission_waits_for_nobody_while_a_commit_hangs(settings: Settings) -> None:
    held = threading.Event()

    class Slow:
        def __init__(self, inner: Committer) -> None:
            self.inner = inner

        def register(self, shard: int, journal: str) -> Registration:
            return self.inner.register(shard, journal)

        def last_sequence(self, journal: str) -> int:
            return self.inner.last_sequence(journal)

        def commit(self, seal: Seal) -> int:
            held.wait()
            return self.inner.commit(seal)

    committer = Committer(settings, clock=SystemClock())
    shard = Shard(settings, 0, shards=1, commits=Slow(committer), clock=SystemClock())
    for number in range(5):
        assert shard.admit("default", events([f"e{number}"]).serialize(), None) == (1, 0)
    held.set()
    shard.drain()
    committer.drain()
    assert CommittedCounts(settings.lake).newest([]).rows == {"default": 5}


def test_a_journal_that_returns_from_a_lost_node_doubles_nothing(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    committer = Committer(settings, clock=SystemClock())
    lost = tmp_path / "node-a" / "shard-00000" / "00000-lost"
    committer.register(0, lost.name)
    journal = Journal(lost)
    journal.open_segment(1)
    # Journaled, never committed: "a" was acknowledged, "b" was not and its sender went elsewhere with it.
    for name in ("a", "b"):
        journal.append(Record(EVENTS, "default", 1, events([name]).serialize()))
    journal.close()

    def shard_on(node: str) -> Shard:
        monkeypatch.setenv("HUB_JOURNAL_DIR", str(tmp_path / node))
        return Shard(settings, 0, shards=1, commits=committer, clock=SystemClock())

    elsewhere = shard_on("node-b")
    assert elsewhere.admit("default", events(["b", "c"]).serialize(), None) == (2, 0)
    elsewhere.drain()
    back = shard_on("node-a")
    assert back.admit("default", events(["a", "c", "d"]).serialize(), None) == (1, 2)
    back.drain()
    positions = committer.positions()
    committed = CommittedCounts(settings.lake).newest(sorted(positions))
    account = settle([back.ledger()], positions, committed)["default"]
    committer.drain()
    assert (account.accepted, account.committed, account.in_flight, account.difference) == (4, 4, 0, 0)
    assert committed.rows == {"default": 4}


def test_an_incarnation_that_was_replaced_commits_nothing_more(settings: Settings) -> None:
    committer = Committer(settings, clock=SystemClock())
    fatal: list[HubError] = []
    zombie = Shard(settings, 0, shards=1, commits=committer, clock=SystemClock(), on_fatal=fatal.append)
    committer.register(0, "another")
    zombie.admit("default", events(["a"]).serialize(), None)
    zombie.drain()
    committer.drain()
    assert [type(error) for error in fatal] == [Fenced]
    assert CommittedCounts(settings.lake).newest([]).rows == {}
