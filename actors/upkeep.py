"""Care of the tables between commits: roll up, take out repeats, compact, let go of old days, free the disk."""

from __future__ import annotations

import os
import threading
from typing import Final

import structlog
from deltalake.exceptions import DeltaError

from actors.compaction import Compactor
from actors.corrections import Corrections, CorrectionStale
from actors.expiry import Expiry, Retentions
from actors.repeats import Finder
from actors.rollover import Rollover
from cluster.clock import Clock
from cluster.errors import CommitLost, Unavailable
from cluster.lake.commit import TableWriter
from cluster.lake.tables import TABLES
from cluster.lake.vacuum import vacuum
from cluster.retention import Retention
from cluster.settings import Settings

log = structlog.get_logger("upkeep")

UPKEEP_EVERY_S: Final = 1.0
_NICE: Final = 10
_NICE_MAX: Final = 19
_VACUUM_EVERY_S: Final = 3_600.0


class Upkeep:
    """A thread beside the committer's. Rows are merged outside the lock, so that no commit waits for it."""

    def __init__(
        self,
        settings: Settings,
        writers: dict[str, TableWriter],
        lock: threading.Lock,
        *,
        clock: Clock,
        corrections: Corrections,
        retentions: Retentions,
    ) -> None:
        """
        Args:
            lock: guards the writers and the corrections.
            retentions: what each tenant keeps; the settings count for those it does not name.
        """
        self._settings = settings
        self._writers = writers
        self._lock = lock
        self._corrections = corrections
        self._clock = clock
        self.compactor = Compactor(settings, writers)
        self._rollover = Rollover(settings, writers, clock=clock)
        self.repeats = Finder(settings, writers, clock=clock)
        kept = Retention(hot_days=settings.hot_days, warm_days=settings.warm_days, cold_days=settings.cold_days)
        self._expiry = Expiry(
            writers, self._rollover, retentions, default=kept, clock=clock, answer_days=settings.answer_days
        )
        self._vacuumed_s = float("-inf")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upkeep", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Finish what is under way."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        # Intake comes first when both want the cores: of this thread, whatever the process itself was started with.
        own = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(_NICE_MAX, own + _NICE))
        while not self._ended.wait(UPKEEP_EVERY_S):
            try:
                with self._lock:
                    self._corrections.mend()
                self._roll()
                self._compact()
                self._expire()
                self._take_out_repeats()
                self._vacuum()
            except (OSError, DeltaError, CommitLost, Unavailable) as error:
                log.error("upkeep_failed", error=str(error)[:300])
                with self._lock:
                    for writer in self._writers.values():
                        writer.reopen()

    def _roll(self) -> None:
        with self._lock:
            due = self._rollover.choose()
        if due is not None:
            staged = self._rollover.merge(due)
            with self._lock:
                self._rollover.commit(due, staged)

    def _take_out_repeats(self) -> None:
        with self._lock:
            moment = self.repeats.choose()
        if moment is None:
            return
        for found in self.repeats.find(moment):
            try:
                with self._lock:
                    self._corrections.apply(found.correction)
            except CorrectionStale:
                self.repeats.leave(found)
            else:
                self.repeats.count(found)
        self.repeats.end(moment)

    def _compact(self) -> None:
        with self._lock:
            chosen = self.compactor.choose()
        if chosen is not None:
            merged = self.compactor.merge(chosen)
            with self._lock:
                self.compactor.swap(chosen, merged)

    def _expire(self) -> None:
        """Let go of old days. A commit of removals alone is short, so the lock is held."""
        if self._expiry.is_due():
            retentions = self._expiry.retentions()
            with self._lock:
                self._expiry.expire(retentions)

    def _vacuum(self) -> None:
        """Free the disk once an hour; needs no lock, since it commits nothing."""
        if self._clock.monotonic_s() - self._vacuumed_s < _VACUUM_EVERY_S:
            return
        self._vacuumed_s = self._clock.monotonic_s()
        for name in TABLES:
            count, size_bytes = vacuum(self._settings.lake, name, age_hours=self._settings.vacuum_age_hours)
            if count:
                log.info("vacuumed", table=name, files=count, size_bytes=size_bytes)
