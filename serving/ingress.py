"""The FastAPI application: routers, middleware, and the parts they share. Knows nothing of Ray Serve."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from typing import Final

from fastapi import FastAPI
from starlette.middleware.gzip import GZipMiddleware

from cluster.clock import Clock
from cluster.metadata.dashboard_links import LinkStore
from cluster.metadata.dashboards import DashboardStore
from cluster.metadata.engine import Database
from cluster.metadata.feedback import FeedbackStore
from cluster.metadata.keys import KeyStore
from cluster.metadata.prices import PriceStore
from cluster.metadata.tenants import TenantStore
from cluster.settings import Settings
from cluster.telemetry import Telemetry
from serving import outages, problem
from serving.answers import Answers
from serving.api import (
    anomalies,
    catalog,
    costs,
    dashboards,
    dead_letters,
    detectors,
    embed,
    events,
    health,
    hooks,
    keys,
    ledger,
    metrics,
    otlp,
    prices,
    prometheus,
    queries,
    retention,
    search,
    sql,
    tenants,
    traces,
    web,
)
from serving.auth.api_keys import KeyGate
from serving.auth.authorise import Authorise
from serving.auth.links import LinkGate
from serving.dead_letter_alarm import DeadLetterAlarm
from serving.limits import Bodies, BodyBudget, SmallBodies, TenantShares
from serving.otlp_grpc import OtlpExport
from serving.pricing import Pricing
from serving.query_jobs import Launch, QueryJobs
from serving.query_port import QueryPort
from serving.quotas import Quotas
from serving.readings import Readings
from serving.reception import DECODE_THREADS, Guards, Pool, Reception
from serving.scorer import ScorerPort

ROUTERS: Final = (
    events.router,
    otlp.router,
    hooks.router,
    metrics.router,
    queries.router,
    search.router,
    traces.router,
    dead_letters.router,
    detectors.router,
    anomalies.router,
    sql.router,
    catalog.router,
    prices.router,
    costs.router,
    dashboards.router,
    embed.router,
    keys.router,
    tenants.router,
    retention.router,
    ledger.router,
    health.router,
    prometheus.router,
    web.router,
)

# Paths that bound their bodies themselves: `HUB_BODY_BYTES_MAX`, or a limit of their own below it.
_LARGE_DOORS: Final = ("/api/v1/events", "/api/v1/hooks/", "/v1/", "/api/v1/score")
# What fits into one packet travels no faster for being smaller; and on most lines the quickest level is the best.
_ENCODED_BYTES_MIN: Final = 1_400
_GZIP_LEVEL: Final = 1
_SMALL_BODY_BYTES: Final = 1024 * 1024
# Bodies of the largest size that one replica holds at once, before it tells senders to come again.
_LARGEST_BODIES: Final = 4
_METADATA_THREADS: Final = 2


def build(
    settings: Settings,
    pool: Pool,
    query: QueryPort | None,
    metadata: Database,
    *,
    clock: Clock,
    scorer: ScorerPort | None = None,
    launch: Launch | None = None,
) -> FastAPI:
    """The application over its parts.

    Args:
        scorer: scores windows; None for a hub without.
        launch: starts the job of a large question; None for a hub without jobs.
        query: answers questions; None for a hub of doors only, whose readiness says so.
        metadata: a migrated store; the application does not close it.
    """
    decoding = ThreadPoolExecutor(DECODE_THREADS, thread_name_prefix="decode")
    asking = ThreadPoolExecutor(_METADATA_THREADS, thread_name_prefix="metadata")
    app = FastAPI(
        title="LLM Analytics Hub",
        version=version("llm-analytics-hub"),
        lifespan=_ending(decoding, asking),
        redoc_url=None,
        # Redirects would answer a POST with a trailing slash by a 307 that exporters do not follow.
        redirect_slashes=False,
    )
    state = app.state
    state.settings, state.pool, state.query, state.metadata, state.clock = settings, pool, query, metadata, clock
    state.scorer, state.feedback = scorer, FeedbackStore(metadata, clock)
    state.query_jobs = QueryJobs(settings, metadata, clock, launch)
    state.telemetry = Telemetry()
    state.keys, state.tenants = KeyStore(metadata, clock), TenantStore(metadata, clock)
    gate = KeyGate(state.keys, state.tenants, clock=clock, executor=asking, keep_s=settings.key_cache_s)
    state.authorise = Authorise(gate)
    state.dashboards, state.dashboard_links = DashboardStore(metadata, clock), LinkStore(metadata, clock)
    state.links = LinkGate(state.dashboard_links, state.tenants, clock)
    state.body_budget = BodyBudget(_LARGEST_BODIES * settings.body_bytes_max)
    state.quotas = Quotas(settings, clock=clock, telemetry=state.telemetry)
    shares = TenantShares(
        requests_max=max(1, int(settings.tenant_share * settings.ingress_ongoing)),
        bytes_max=int(settings.tenant_share * _LARGEST_BODIES * settings.body_bytes_max),
        telemetry=state.telemetry,
    )
    state.bodies = Bodies(
        sent_max=settings.body_bytes_max, budget=state.body_budget, shares=shares, quotas=state.quotas
    )
    state.alarm = DeadLetterAlarm(settings, clock)
    pricing = Pricing(PriceStore(metadata, clock), clock=clock, executor=asking)
    guards = Guards(state.quotas, shares, state.alarm, pricing)
    state.reception = Reception(settings, pool, guards, clock=clock, telemetry=state.telemetry, executor=decoding)
    state.readings = Readings(pool, clock)
    state.otlp_export = OtlpExport(state.authorise, state.reception)
    _open(app)
    return app


def _ending(*threads: ThreadPoolExecutor) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Ends the threads with the application."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        for one in threads:
            one.shutdown(wait=False, cancel_futures=True)

    return lifespan


def _open(app: FastAPI) -> None:
    """Routes, and what stands around each of them."""
    problem.install(app)
    outages.install(app)
    for router in ROUTERS:
        app.include_router(router)
    # The last added is the outermost.
    app.add_middleware(SmallBodies, limit_bytes=_SMALL_BODY_BYTES, except_under=_LARGE_DOORS)
    app.add_middleware(GZipMiddleware, minimum_size=_ENCODED_BYTES_MIN, compresslevel=_GZIP_LEVEL)
    app.add_middleware(Answers, clock=app.state.clock, telemetry=app.state.telemetry)
