"""Answers requests over the newest snapshot: from memory where it holds the range, else from the lake's files."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
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
from cluster.lake.tables import MINUTES, ROLLUPS, uri
from cluster.settings import Settings
from cluster.tenancy import TenantScope
from models.query.catalog import catalog
from models.query.dead_letters import dead_letters_answer, parse_dead_letters
from models.query.kinds import Question, ask
from models.query.parameters import Parameters
from models.query.plan import Plan
from models.query.source import Context
from models.query.sql import Fragment, Run
from models.query.times import Range
from models.query.traces import TracesRequest, parse_traces, traces_answer
from serving.database import Database
from serving.hot_rollups import HotRollups
from serving.last_changes import LastChanges
from serving.query_source import HotRun, NewestSource, PastSource
from serving.relations import lake_rows
from serving.rolled import RolledFiles
from serving.sql_answers import SqlAnswers
from serving.sql_job import SqlRows
from serving.sql_request import SqlRequest

# The minutes last: they are then no older than what the coarse tables have rolled in.
TABLES_READ: Final = ("events", "dead_letters", *reversed(ROLLUPS))
# Answers kept; each is at most some hundred kilobytes of JSON, and most are two.
_CACHE_BYTES: Final = 64 * 1024 * 1024
# Half of the memory limit for the hot days, the other half for questions.
_HOT_SHARE: Final = 0.5
# A refresh that fails this many times in a row is a broken replica, not a busy disk.
_FAILURES_MAX: Final = 60

_log = structlog.get_logger(__name__)
_encoder = msgspec.json.Encoder(decimal_format="number")


@dataclass(frozen=True, slots=True)
class Answer:
    """JSON ready to send.

    Attributes:
        version: version of the table it was read from.
        etag: quoted; equal for equal questions of equal scopes at equal versions, so 304 may be said on it.
    """

    body: bytes
    version: int
    etag: str


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
        self._changed = {name: LastChanges(Path(uri(settings.lake, name)).absolute()) for name in (MINUTES, "events")}
        self._sql = SqlAnswers(settings, clock)
        self._cache = AnswerCache(_CACHE_BYTES)
        self._running: dict[tuple[Any, ...], asyncio.Task[Answer]] = {}
        self._refreshing = threading.Lock()
        self._stopped = threading.Event()
        self._failures = 0

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
            files = RolledFiles(self._settings.lake, snapshots)
            self._hot.update(snapshots, files)
            self._snapshots, self._files = snapshots, files
            for name, changed in self._changed.items():
                changed.follow(snapshots[name].version)

    def check_health(self) -> None:
        """Raises:
        Unavailable: the tables could not be followed for a long time.
        """
        if self._failures >= _FAILURES_MAX:
            raise Unavailable("the tables cannot be read", retry_after_s=5.0)

    async def query(self, scope: TenantScope, kind: str, parameters: Parameters) -> Answer:
        """A question of the catalogue, see `models.query.kinds`."""
        context = Context(self._clock.now_us(), scope.tenants, self._settings.groups_max)
        question = ask(kind, parameters, context)
        # Every roll-up tier is followed to the version of the minutes.
        table = MINUTES if question.from_rollups else "events"
        if question.past is not None:
            wanted = partial(snapshot_at, version=question.past.version, at_us=question.past.at_us)
            snapshot = await asyncio.get_running_loop().run_in_executor(None, wanted, self._settings.lake, table)
            return await self._answered(
                (scope, "as_of", question.kind, question.request, snapshot.version),
                snapshot,
                lambda run: question.answer(PastSource(scope, run, snapshot)),
            )
        return await self._answered(
            (scope, question.kind, question.request, *self._unchanged_since(scope, question)),
            self._snapshots[table],
            lambda run: question.answer(
                NewestSource(scope, HotRun(scope, run, self._hot), self._rows, lambda: self._snapshots["events"])
            ),
        )

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

    async def sql(self, scope: TenantScope, request: SqlRequest) -> SqlRows:
        """The rows of one statement over the newest versions, or the past ones it names; see `SqlAnswers`."""
        return await self._sql.rows(scope, request, self._snapshots)

    async def catalog(self) -> Answer:
        """Measures, dimensions, modules, kinds and operators."""
        body = _encoder.encode(catalog())
        return Answer(body, 0, _etag(0, ("catalog", hashlib.sha256(body).hexdigest())))

    async def ledger_committed(self, scope: TenantScope, journals: tuple[str, ...] = ()) -> dict[str, Any]:
        """What the newest snapshot holds, from the log alone.

        Returns:
            {"versions": {table: version}, "tenants": {tenant: {"events": rows, "dead_letters": rows}},
            "journals": {journal: last committed sequence}}; versions are -1 before the first commit.
        """
        await asyncio.get_running_loop().run_in_executor(None, self.refresh)
        events, dead = self._snapshots["events"], self._snapshots["dead_letters"]
        counts, dead_counts = row_counts(scope, events), row_counts(scope, dead)
        return {
            "versions": {name: snapshot.version for name, snapshot in self._snapshots.items()},
            "tenants": {
                str(tenant): {"events": counts[tenant], "dead_letters": dead_counts[tenant]} for tenant in scope.tenants
            },
            "journals": self._readers["events"].transaction_versions(journals),
        }

    def _unchanged_since(self, scope: TenantScope, question: Question) -> tuple[int, ...]:
        """For each range a question reads, a version since which none of its rows changed.

        What others send, and what came for other days, does not make an answer wrong that was given before.
        """
        if not question.plans:
            return (self._snapshots["events"].version,)
        return tuple(
            self._changed[MINUTES if plan.from_rollups else "events"].version(scope, span)
            for plan in question.plans
            for span in plan.ranges
        )

    def _rows(self, scope: TenantScope, plan: Plan) -> Callable[[Range], Fragment]:
        def rows(span: Range) -> Fragment:
            # Snapshots are taken here, not when the question came: a retry must not name the files that went away.
            if not plan.from_rollups:
                return lake_rows(scope, self._snapshots["events"], span)
            return self._files.rows(scope, plan, span)

        return rows

    async def _answered(
        self, key: tuple[Any, ...], snapshot: Snapshot, question: Callable[[Run], dict[str, Any]]
    ) -> Answer:
        """The answer from the cache, from the same question already running, or from the database.

        Args:
            key: all that the answer follows from: scope, question, and versions since which nothing it reads changed.
        """
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

    async def _asked(
        self, key: tuple[Any, ...], snapshot: Snapshot, question: Callable[[Run], dict[str, Any]]
    ) -> Answer:
        def work(run: Run) -> bytes:
            return _encoder.encode({**question(run), "version": snapshot.version})

        body = await self._database.ask(work, timeout_s=self._settings.query_timeout_s)
        answer = Answer(body, snapshot.version, _etag(snapshot.version, key))
        self._cache.put(key, answer)
        return answer

    def _follow(self) -> None:
        while not self._stopped.wait(self._settings.refresh_s):
            try:
                self.refresh()
                self._failures = 0
            except (HubError, duckdb.Error, OSError) as error:
                self._failures += 1
                _log.warning("refresh_failed", error=str(error), failures=self._failures)


class AnswerCache:
    """The last used answers, up to a number of bytes. Keys hold scope and version: nothing foreign, nothing stale."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._answers: OrderedDict[tuple[Any, ...], Answer] = OrderedDict()

    def get(self, key: tuple[Any, ...]) -> Answer | None:
        """The answer of that question, scope and version, if it is kept."""
        if key not in self._answers:
            return None
        self._answers.move_to_end(key)
        return self._answers[key]

    def put(self, key: tuple[Any, ...], answer: Answer) -> None:
        """Keep an answer, in place of those not used for longest. One over a tenth of the limit is not kept."""
        if len(answer.body) > self._limit_bytes // 10 or key in self._answers:
            return
        self._answers[key] = answer
        self._size_bytes += len(answer.body)
        while self._size_bytes > self._limit_bytes:
            _, dropped = self._answers.popitem(last=False)
            self._size_bytes -= len(dropped.body)


def _etag(version: int, key: tuple[Any, ...]) -> str:
    return f'"{version}-{hashlib.blake2b(repr(key).encode(), digest_size=12).hexdigest()}"'
