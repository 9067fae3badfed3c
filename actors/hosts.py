"""The Ray shells: classes that give a plain part its settings, clock and neighbours, and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import ray
import structlog
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayActorError, RayTaskError

from actors.committer import Committer, Positions
from actors.corrections import Correction, CorrectionStale
from actors.intake import Registration, Seal
from actors.lanes import Batch
from actors.shard import Shard
from actors.warm import warm_shard
from cluster import interpreter
from cluster.clock import SystemClock
from cluster.errors import Fenced, HubError, JournalFailed, SequenceGap
from cluster.lake.stage import StagedFile
from cluster.metadata.retention import RetentionStore
from cluster.metadata.schema import open_metadata
from cluster.settings import Settings
from cluster.telemetry import configure_log

log = structlog.get_logger("hosts")

_RETRY_S: Final = 0.2
_START_AGAIN_S: Final = 1.0
# Ray types its calls by the remote function; here the method is only known by name.
_get: Final[Any] = ray.get
# Threads of a shard: each waits for its turn at the journal, so this bounds batches that share one fsync.
SHARD_THREADS: Final = 64
COMMITTER_THREADS: Final = 64


def committer_name(region: str) -> str:
    """Ray actor name of a region's committer."""
    return f"committer-{region}"


def detector_name(region: str) -> str:
    """Ray actor name of a region's detector."""
    return f"detector-{region}"


def shard_name(region: str, number: int) -> str:
    """Ray actor name of a shard."""
    return f"shard-{region}-{number:05d}"


class RemoteCommits:
    """CommitPort over Ray: waits out restarts of the committer, since a repeated seal is not committed twice."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._actor: Any = None

    def register(self, shard: int, journal: str) -> Registration:
        answer: Registration = self._call("register", shard, journal)
        return answer

    def last_sequence(self, journal: str) -> int:
        return int(self._call("last_sequence", journal))

    def commit(self, seal: Seal) -> int:
        return int(self._call("commit", seal))

    def correct(self, correction: Correction) -> None:
        self._call("correct", correction)

    def notes(self) -> list[dict[str, Any]]:
        return list(self._call("notes"))

    def forget(self, identity: str) -> None:
        self._call("forget", identity)

    def found_sequence(self, journal: str) -> int:
        return int(self._call("found_sequence", journal))

    def commit_found(self, journal: str, sequence: int, files: Sequence[StagedFile]) -> int:
        return int(self._call("commit_found", journal, sequence, tuple(files)))

    def commit_answer(self, query_id: str, files: Sequence[StagedFile]) -> int:
        return int(self._call("commit_answer", query_id, tuple(files)))

    def _call(self, method: str, *arguments: object) -> Any:
        while True:
            try:
                if self._actor is None:
                    self._actor = ray.get_actor(committer_name(self._settings.region), self._settings.namespace)
                return _get(getattr(self._actor, method).remote(*arguments))
            except (ActorDiedError, ActorUnavailableError, RayActorError, ValueError) as error:
                log.warning("committer_away", method=method, error=type(error).__name__)
                self._actor = None
            except RayTaskError as error:
                if isinstance(error.cause, Fenced | SequenceGap | CorrectionStale):
                    raise error.cause from error
                log.warning("commit_refused", method=method, error=str(error.cause)[:300])
            time.sleep(_RETRY_S)


def _end_and_begin_again(part: str, error: Exception) -> NoReturn:
    """End this process, since its disk is full or fails: Ray starts an actor again that ends, not one that raises."""
    log.error("start_failed", part=part, error=str(error)[:300])
    time.sleep(_START_AGAIN_S)
    os._exit(1)


class ShardHost:
    """One shard in its own process."""

    def __init__(self, settings: Settings, number: int, shards: int) -> None:
        # A batch that waits for an fsync gets the interpreter back from the sealing thread at once, not 5 ms later.
        interpreter.share()
        configure_log(settings.log_level)
        warm_shard()
        try:
            self._shard = Shard(
                settings,
                number,
                shards=shards,
                commits=RemoteCommits(settings),
                clock=SystemClock(),
                # A new incarnation reads the disk and knows what is there; this one does not any more.
                on_fatal=lambda error: os._exit(1),
            )
        except (OSError, JournalFailed) as error:
            _end_and_begin_again(f"shard {number}", error)
        interpreter.settle()

    def admit_many(self, batches: Sequence[Batch]) -> list[tuple[int, int] | HubError]:
        return self._shard.admit_many(batches)

    def ledger(self) -> dict[str, object]:
        return {**self._shard.ledger(), "pid": os.getpid(), "node": ray.get_runtime_context().get_node_id()}

    def drain(self) -> None:
        self._shard.drain()


class CommitterHost:
    """The region's committer in its own process."""

    def __init__(self, settings: Settings) -> None:
        configure_log(settings.log_level)
        # A failed commit leaves handles in doubt; the next incarnation reads the tables as they are.
        try:
            clock = SystemClock()
            retentions = RetentionStore(open_metadata(settings, clock), clock).every
            self._committer = Committer(settings, clock=clock, on_fatal=lambda error: None, retentions=retentions)
        except OSError as error:
            _end_and_begin_again("the committer", error)

    def register(self, shard: int, journal: str) -> Registration:
        return self._committer.register(shard, journal)

    def last_sequence(self, journal: str) -> int:
        return self._committer.last_sequence(journal)

    def commit(self, seal: Seal) -> int:
        return self._committer.commit(seal)

    def correct(self, correction: Correction) -> None:
        self._committer.correct(correction)

    def notes(self) -> list[dict[str, Any]]:
        return self._committer.notes()

    def forget(self, identity: str) -> None:
        self._committer.forget(identity)

    def found_sequence(self, journal: str) -> int:
        return self._committer.found_sequence(journal)

    def commit_found(self, journal: str, sequence: int, files: Sequence[StagedFile]) -> int:
        return self._committer.commit_found(journal, sequence, files)

    def commit_answer(self, query_id: str, files: Sequence[StagedFile]) -> int:
        return self._committer.commit_answer(query_id, files)

    def positions(self) -> Positions:
        return self._committer.positions()

    def status(self) -> dict[str, object]:
        return {**self._committer.status(), "pid": os.getpid()}

    def drain(self) -> None:
        self._committer.drain()
