"""The composition root: `serving.app:hub`, the application that Ray Serve runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import ray
from fastapi import FastAPI
from google.protobuf.message import Message  # type: ignore[import-untyped]
from ray import serve
from ray.serve import Application
from ray.serve.config import BackpressureConfig
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig
from starlette.types import Receive, Scope, Send

from actors.pool import ShardPool
from actors.warm import warm_pricing
from cluster import interpreter
from cluster.clock import SystemClock
from cluster.contract.warm import warm
from cluster.metadata.schema import open_metadata
from cluster.settings import Settings
from cluster.telemetry import configure_log
from serving.answers import ID_TOLD
from serving.ingress import build
from serving.query_jobs import launch_by_ray
from serving.query_memory import QueryMemory
from serving.query_port import QueryEngineDeployment, RemoteQuery
from serving.scorer import RemoteScorer, ScorerDeployment

# The name under which infra deploys; gRPC callers need not send it, since there is one application.
APPLICATION: Final = "hub"

# Two of each fit beside the shards on two cores: the doors wait for fsyncs more than they work.
_INGRESS_CPUS: Final = 0.2
_QUERY_CPUS: Final = 0.3
_SCORER_CPUS: Final = 0.05
# A replica that hangs is found within three of these; with Serve's own 10 s and 30 s a dead door lasts a minute.
_HEALTH_PERIOD_S: Final = 2.0
_HEALTH_TIMEOUT_S: Final = 5.0
_SCORER_TIMEOUT_S: Final = 30.0
_RETRY_AFTER_S: Final = 1.0
# Each request has a line of ours (serving/answers.py); Serve would write one more, to a file, for each of its hops.
_QUIET: Final = LoggingConfig(enable_access_log=False)


class Ingress:
    """One replica of the doors: HTTP through the FastAPI application, OTLP/gRPC through `Export`."""

    def __init__(self, environment: Mapping[str, str], query: DeploymentHandle, scorer: DeploymentHandle) -> None:
        # As variables, so that every replica checks them again and a restart reads the same ones.
        self._settings = Settings.from_environment(environment)
        configure_log(self._settings.log_level)
        interpreter.share()
        # Before the first request rather than with it.
        warm()
        warm_pricing()
        clock = SystemClock()
        remote = RemoteQuery(query, clock, straight=self._settings.query_replicas == 1)
        self._query = QueryMemory(remote, self._settings, clock)
        self._scorer = RemoteScorer(scorer, clock, straight=self._settings.scorer_replicas == 1)
        self._application: FastAPI | None = None

    async def __serve_build_asgi_app__(self) -> Any:
        """The ASGI application; called once by Serve, on the event loop that will serve it."""
        clock = SystemClock()
        pool = ShardPool.connect(self._settings)
        metadata = open_metadata(self._settings, clock)
        application = build(
            self._settings, pool, self._query, metadata, clock=clock, scorer=self._scorer, launch=launch_by_ray
        )
        self._application = application
        interpreter.settle()

        async def application_only(scope: Scope, receive: Receive, send: Send) -> None:
            # Serve would add handlers of its own to a FastAPI object, whose answers are not problem+json.
            # It also appends the request id to every answer, which would then stand there twice.
            scope[ID_TOLD] = True
            await application(scope, receive, send)

        return application_only

    async def Export(self, message: Message, grpc_context: Any) -> Message:  # noqa: N802
        """The one method of the three OTLP services; the message tells which."""
        assert self._application is not None
        answer: Message = await self._application.state.otlp_export.export(message, grpc_context)
        return answer

    async def check_health(self) -> None:
        """Serve replaces the replica when this raises or the event loop is stuck.

        Whatever a new replica would find away too (shards, metadata) is no reason: `/api/v1/ready` tells of that.
        """
        if self._application is None:
            raise RuntimeError("the application was not built")


def compose(settings: Settings) -> Application:
    """The application for these settings, ready for `serve.run(…, name=APPLICATION, route_prefix="/")`."""
    # Told, not found out: each replica grants its share of a tenant's quota.
    settings = replace(settings, ingress_replicas=settings.ingress_replicas or max(1, _cores() // 2))
    environment = settings.environment()
    query = QueryEngineDeployment.options(
        num_replicas=settings.query_replicas,
        logging_config=_QUIET,
        max_queued_requests=settings.query_queue,
        ray_actor_options={"num_cpus": _QUERY_CPUS},
        health_check_period_s=_HEALTH_PERIOD_S,
        health_check_timeout_s=_HEALTH_TIMEOUT_S,
    ).bind(environment)
    scorer = ScorerDeployment.options(
        num_replicas=settings.scorer_replicas,
        logging_config=_QUIET,
        max_queued_requests=settings.scorer_queue,
        ray_actor_options={"num_cpus": _SCORER_CPUS},
        health_check_period_s=_HEALTH_PERIOD_S,
        # Its first models import torch, for seconds of one core.
        health_check_timeout_s=_SCORER_TIMEOUT_S,
    ).bind(environment)
    ingress = serve.deployment(
        name="ingress",
        num_replicas=settings.ingress_replicas,
        logging_config=_QUIET,
        max_ongoing_requests=settings.ingress_ongoing,
        max_queued_requests=settings.ingress_ongoing,
        # Not 503, which some exporters take for an outage, and never without a time to come again.
        backpressure_config=BackpressureConfig(status_code=429, retry_after_s=_RETRY_AFTER_S),
        ray_actor_options={"num_cpus": _INGRESS_CPUS},
        health_check_period_s=_HEALTH_PERIOD_S,
        health_check_timeout_s=_HEALTH_TIMEOUT_S,
    )(serve.ingress()(Ingress))
    return ingress.bind(environment, query, scorer)


def _cores() -> int:
    if ray.is_initialized():
        return int(ray.cluster_resources().get("CPU", 1))
    return os.cpu_count() or 1


hub = compose(Settings.from_environment())
