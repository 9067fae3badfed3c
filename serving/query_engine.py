"""Answers requests over the newest snapshot: from memory where it holds the range, else from the lake's files."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import duckdb
import msgspec
import structlog

from cluster.clock import Clock
from cluster.errors import HubError, Unavailable
from cluster.lake.past import snapshot_at
from cluster.lake.scan import Snapshot, TableReader, row_counts
from cluster.lake.tables import ANSWERS, ROLLUPS, uri
from cluster.settings import Settings
from cluster.tenancy import TenantScope
from models.query.ages import floors_of
from models.query.anomalies import ALL_TIME, anomalies_answer, anomaly_answer, parse_anomalies, reach
from models.query.catalog import catalog
from models.query.dead_letters import dead_letters_answer, parse_dead_letters
from models.query.kinds import Question, ask
from models.query.pages import Page
from models.query.parameters import Parameters
from models.query.plan import Plan
from models.query.source import Context
from models.query.sql import Fragment, Run
from models.query.times import Range
from models.query.traces import TracesRequest, parse_traces, traces_answer
from serving.database import Database
from serving.hot_rollups import HotRollups
from serving.last_changes import ChangedDays, LastChanges
from serving.query_answers import (
    FOLLOWED,
    Answer,
    AnswerCache,
    AnswerKey,
    Asked,
    etag_of,
    key_of,
    since_of,
    table_of,
    within_bounds,
)
from serving.query_scan import Scan, refuse_large, scan_of
from serving.query_source import HotRun, NewestSource, PastSource
from serving.relations import lake_rows
from serving.rolled import RolledFiles
from serving.sql_answers import SqlAnswers
from serving.sql_job import SqlPart, SqlRows
from serving.sql_request import SqlRequest
from serving.stored_answers import stored_answer

# The minutes last: they are then no older than what the coarse tables have rolled in.
TABLES_READ: Final = ("events", "dead_letters", "anomalies", ANSWERS, *reversed(ROLLUPS))
# Answers kept; each is at most some hundred kilobytes of JSON, and most are two.
_CACHE_BYTES: Final = 64 * 1024 * 1024
# Half of the memory limit for the hot days, the other half for questions.
_HOT_SHARE: Final = 0.5
# Questions of one batch that run together: the rest of the threads and the queue is for others.
_BATCH_AT_ONCE: Final = 2
# A refresh that fails for so long is a broken replica, not a busy disk.
_FAILING_MAX_S: Final = 30.0
_FAILED_PAUSE_S: Final = 0.5

_log = structlog.get_logger(__name__)
_encoder = msgspec.json.Encoder(decimal_format="number")


class QueryEngine:
    """One replica's engine. Methods are for one event loop; the work runs in the database's threads."""

    def __init__(self, settings: Settings, clock: Clock, *, hot_share: float = _HOT_SHARE) -> None:
        """
        Args:
            hot_share: part of the replica's memory that newest roll-ups may take, 0 to 1.
        """
        self._settings = settings
        self._clock = clock
        self._readers = {name: TableReader(settings.lake, name) for name in TABLES_READ}
        self._snapshots: dict[str, Snapshot] = {name: reader.snapshot for name, reader in self._readers.items()}
        self._database = Database(
            settings.lake,
            threads=settings.query_threads,
            memory_bytes=int(settings.query_memory_bytes * (1 - hot_share)),
            queue=settings.query_queue,
            clock=clock,
        )
        self._hot = HotRollups(settings.lake, memory_bytes=int(settings.query_memory_bytes * hot_share))
        self._files = RolledFiles(settings.lake, self._snapshots)
        self._changed = {name: LastChanges(Path(uri(settings.lake, name)).absolute()) for name in FOLLOWED}
        self._sql = SqlAnswers(settings, clock)
        self._cache = AnswerCache(_CACHE_BYTES)
        self._running: dict[AnswerKey, asyncio.Task[Answer]] = {}
        self._awaiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._refreshing = threading.Lock()
        self._stopped = threading.Event()
        self._failing_since_s: float | None = None

    def start(self) -> None:
        """Follow the tables from a thread of its own until `close`."""
        threading.Thread(target=self._follow, name="refresh", daemon=True).start()

    def close(self) -> None:
        """Stop following and free the memory."""
        self._stopped.set()
        self._sql.close()
        with self._refreshing:
            self._database.close()

    def refresh(self) -> None:
        """Move to the newest version of every table.

        Raises:
            HubError, duckdb.Error, OSError: a table could not be read; answers stay at the version before.
        """
        with self._refreshing:
            if self._stopped.is_set():
                return
            snapshots = {name: reader.refresh() for name, reader in self._readers.items()}
            if all(snapshot is self._snapshots[name] for name, snapshot in snapshots.items()):
                return
            files = RolledFiles(self._settings.lake, snapshots)
            self._hot.update(snapshots, files)
            self._snapshots, self._files = snapshots, files
            for name, changed in self._changed.items():
                changed.follow(snapshots[name].version)
        for loop, event in tuple(self._awaiting):
            # A loop that has ended waits for nothing.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(event.set)

    def check_health(self) -> None:
        """Raises:
        Unavailable: the tables could not be followed for a long time.
        """
        since_s = self._failing_since_s
        if since_s is not None and self._clock.monotonic_s() - since_s > _FAILING_MAX_S:
            raise Unavailable("the tables cannot be read", retry_after_s=5.0)

    async def query(
        self, scope: TenantScope, kind: str, parameters: Parameters, *, now_us: int | None = None
    ) -> Answer:
        """A question of the catalogue, see `models.query.kinds`.

        Args:
            now_us: what relative times stand on; the clock where it is left out.
        """
        now_us = self._clock.now_us() if now_us is None else now_us
        question, snapshot, events = await self._read(scope, (kind, parameters), now_us)
        refuse_large(scope, question, events, now_us=now_us, bytes_max=self._settings.query_scan_bytes)
        if question.past is not None:
            return await self._answered(
                (scope, "as_of", question.kind, question.request, snapshot.version),
                snapshot,
                lambda run: question.answer(PastSource(scope, run, snapshot)),
            )
        return await self._answered(
            key_of(scope, question, since_of(scope, question, self._changes())),
            snapshot,
            lambda run: question.answer(
                NewestSource(scope, HotRun(scope, run, self._hot), self._rows, lambda: self._snapshots["events"])
            ),
        )

    async def scan(self, scope: TenantScope, kind: str, parameters: Parameters, *, now_us: int) -> Scan | None:
        """What a question reads of the events; None where no job would answer it."""
        question, _, events = await self._read(scope, (kind, parameters), now_us)
        return scan_of(scope, question, events, now_us=now_us, bytes_max=self._settings.query_scan_bytes)

    async def stored(self, scope: TenantScope, query_id: str, page: Page, span: Range) -> bytes:
        """A page of the answer that a job gave in that range of time, see `serving.stored_answers`."""

        def work(run: Run) -> bytes:
            return stored_answer(query_id, page, lake_rows(scope, self._snapshots[ANSWERS], span), run)

        # It may have been committed a moment ago.
        await asyncio.get_running_loop().run_in_executor(None, self.refresh)
        return await self._database.ask(work, owner=scope.tenants[0], timeout_s=self._settings.query_timeout_s)

    async def _read(self, scope: TenantScope, asked: Asked, now_us: int) -> tuple[Question, Snapshot, Snapshot]:
        """A question, the snapshot it is about, and that of the events where they answer it."""
        floors = floors_of({name: one.floors for name, one in self._snapshots.items()}, scope.tenants)
        question = ask(*asked, Context(now_us, scope.tenants, self._settings.groups_max, floors))
        table = table_of(question)
        snapshot = self._snapshots[table]
        if question.past is not None:
            wanted = partial(snapshot_at, version=question.past.version, at_us=question.past.at_us)
            snapshot = await asyncio.get_running_loop().run_in_executor(None, wanted, self._settings.lake, table)
        return question, snapshot, snapshot if table == "events" else self._snapshots["events"]

    async def batch(self, scope: TenantScope, asked: Sequence[Asked], *, now_us: int) -> list[Answer | HubError]:
        """Several questions of the catalogue at one time, each answered or refused by itself."""
        turns = asyncio.Semaphore(_BATCH_AT_ONCE)

        async def one(kind: str, parameters: Parameters) -> Answer | HubError:
            async with turns:
                try:
                    return await self.query(scope, kind, parameters, now_us=now_us)
                except HubError as error:
                    return error

        return within_bounds(await asyncio.gather(*(one(*question) for question in asked)))

    async def moved(self, known: Mapping[str, int], wait_s: float) -> dict[str, ChangedDays]:
        """What each followed table gained since the versions that are known; waits for it, `wait_s` at most."""
        event = asyncio.Event()
        awaiting = (asyncio.get_running_loop(), event)
        self._awaiting.add(awaiting)
        try:
            if all(changed.version <= known.get(name, -1) for name, changed in self._changes().items()):
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await event.wait()
        finally:
            self._awaiting.discard(awaiting)
        return {name: changed.gained(known.get(name, -1)) for name, changed in self._changes().items()}

    async def search(self, scope: TenantScope, parameters: Parameters) -> Answer:
        """Events newest first, see `models.query.search`."""
        return await self.query(scope, "search", parameters)

    async def traces(self, scope: TenantScope, parameters: Parameters) -> Answer:
        """Traces newest first, see `models.query.traces`."""
        request: TracesRequest = parse_traces(parameters, now_us=self._clock.now_us())
        snapshot = self._snapshots["events"]
        return await self._answered(
            (scope, request, snapshot.version),
            snapshot,
            lambda run: traces_answer(request, lake_rows(scope, snapshot, request.span), run),
        )

    async def trace(self, scope: TenantScope, trace_id: str) -> Answer:
        """One trace over all modules, see `models.correlate.trace`.

        Raises:
            NotFound: the scope's tenants have no event of that trace.
        """
        return await self.query(scope, "trace", (("trace_id", trace_id),))

    async def dead_letters(self, scope: TenantScope, parameters: Parameters) -> Answer:
        """Dead letters newest first, see `models.query.dead_letters`."""
        request = parse_dead_letters(parameters, scope.tenants, now_us=self._clock.now_us())
        snapshot = self._snapshots["dead_letters"]
        return await self._answered(
            (scope, request, snapshot.version),
            snapshot,
            lambda run: dead_letters_answer(request, lake_rows(scope, snapshot, request.span), run),
        )

    async def anomalies(self, scope: TenantScope, parameters: Parameters) -> Answer:
        """Found anomalies newest first, see `models.query.anomalies`."""
        request = parse_anomalies(parameters, scope.tenants, now_us=self._clock.now_us())
        snapshot = self._snapshots["anomalies"]
        return await self._answered(
            (scope, request, snapshot.version),
            snapshot,
            lambda run: anomalies_answer(request, lake_rows(scope, snapshot, reach(request.span)), run),
        )

    async def anomaly(self, scope: TenantScope, anomaly_id: str) -> Answer:
        """One found anomaly.

        Raises:
            NotFound: the scope's tenants have none of that id.
        """
        snapshot = self._snapshots["anomalies"]
        return await self._answered(
            (scope, "anomaly", anomaly_id, snapshot.version),
            snapshot,
            lambda run: anomaly_answer(anomaly_id, lake_rows(scope, snapshot, ALL_TIME), run),
        )

    def sql(self, scope: TenantScope, request: SqlRequest) -> AsyncGenerator[SqlPart | SqlRows]:
        """The rows of one statement over the newest versions, or the past ones it names; see `SqlAnswers.answer`."""
        return self._sql.answer(scope, request, self._snapshots)

    async def catalog(self) -> Answer:
        """Measures, dimensions, modules, kinds and operators."""
        body = _encoder.encode(catalog())
        return Answer(body, 0, etag_of(0, ("catalog", body)))

    async def ledger_committed(self, scope: TenantScope, journals: tuple[str, ...] = ()) -> dict[str, Any]:
        """What the newest snapshot holds, from the log alone.

        Returns:
            {"versions": {table: version}, "tenants": {tenant: {"events": rows, "dead_letters": rows}},
            "journals": {journal: last committed sequence}}; versions are -1 before the first commit.
        """
        await asyncio.get_running_loop().run_in_executor(None, self.refresh)
        counts = {name: row_counts(scope, self._snapshots[name]) for name in ("events", "dead_letters")}
        return {
            "versions": {name: snapshot.version for name, snapshot in self._snapshots.items()},
            "tenants": {str(tenant): {name: counts[name][tenant] for name in counts} for tenant in scope.tenants},
            "journals": self._readers["events"].transaction_versions(journals),
        }

    def _changes(self) -> dict[str, ChangedDays]:
        return {name: changed.state for name, changed in self._changed.items()}

    def _rows(self, scope: TenantScope, plan: Plan) -> Callable[[Range], Fragment]:
        def rows(span: Range) -> Fragment:
            # Snapshots are taken here, not when the question came: a retry must not name the files that went away.
            if not plan.from_rollups:
                return lake_rows(scope, self._snapshots["events"], span)
            return self._files.rows(scope, plan, span)

        return rows

    async def _answered(self, key: AnswerKey, snapshot: Snapshot, question: Callable[[Run], dict[str, Any]]) -> Answer:
        """The answer from the cache, from the same question already running, or from the database."""
        cached = self._cache.get(key)
        if cached is not None:
            return cached
        task = self._running.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._asked(key, snapshot, question))
            self._running[key] = task
            task.add_done_callback(lambda _: self._running.pop(key, None))
        # Somebody who goes away must not take the answer from the others who wait for it.
        return await asyncio.shield(task)

    async def _asked(self, key: AnswerKey, snapshot: Snapshot, question: Callable[[Run], dict[str, Any]]) -> Answer:
        def work(run: Run) -> bytes:
            return _encoder.encode({**question(run), "version": snapshot.version})

        scope: TenantScope = key[0]
        body = await self._database.ask(work, owner=scope.tenants[0], timeout_s=self._settings.query_timeout_s)
        answer = Answer(body, snapshot.version, etag_of(snapshot.version, key))
        self._cache.put(key, answer)
        return answer

    def _follow(self) -> None:
        pause_s = self._settings.refresh_s
        while not self._stopped.wait(pause_s):
            pause_s = self._settings.refresh_s
            try:
                self.refresh()
                self._failing_since_s = None
            except (HubError, duckdb.Error, OSError) as error:
                self._failing_since_s = self._failing_since_s or self._clock.monotonic_s()
                _log.warning("refresh_failed", error=str(error))
                pause_s = max(pause_s, _FAILED_PAUSE_S)
