"""`llmhub up`, `down` and `status`."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cluster.errors import HubError
from cluster.settings import Settings
from infra.cli import detached
from infra.cli.failures import CommandFailed
from infra.runtime import imports, processes
from infra.runtime.layout import HubState, Layout

STOP_DEADLINE_S = 120.0

DataOption = Annotated[Path | None, typer.Option("--data", help="Folder of the hub (HUB_DATA, else ./.llmhub).")]


def up(
    *,
    data: DataOption = None,
    port: Annotated[int | None, typer.Option(help="HTTP port (8000).")] = None,
    otlp_port: Annotated[int | None, typer.Option(help="OTLP/gRPC port (4317).")] = None,
    mlflow_port: Annotated[int | None, typer.Option(help="MLflow port (5000).")] = None,
    shards: Annotated[int | None, typer.Option(help="Shard actors; 0 chooses by cores.")] = None,
    host: Annotated[str | None, typer.Option(help="Address of the two public doors (127.0.0.1).")] = None,
    address: Annotated[str, typer.Option(help="GCS address of a running Ray cluster to join.")] = "",
    demo: Annotated[bool, typer.Option("--demo", help="Stream a simulated LLM platform into the hub.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Return once ready; `llmhub down` stops it.")] = False,
) -> None:
    """Start the hub on this machine: Ray, the doors, MLflow."""
    given: dict[str, Any] = {
        "data": data,
        "port": port,
        "otlp_port": otlp_port,
        "mlflow_port": mlflow_port,
        "shards": shards,
    }
    given["host"] = "127.0.0.1" if host == "localhost" else host
    overrides = {f"HUB_{name.upper()}": str(value) for name, value in given.items() if value is not None}
    environment = {**os.environ, **overrides}
    environment["HUB_DATA"] = str(Layout.over(data).data)
    settings = Settings.from_environment(environment)
    if detach:
        detached.start(Layout.of(settings), lambda: _run(settings, address=address, demo=demo))
        return
    raise typer.Exit(_run(settings, address=address, demo=demo))


def _run(settings: Settings, *, address: str, demo: bool) -> int:
    """The hub, until it is stopped or fails."""
    # Imported here: the other commands save the time.
    imports.hide(*imports.UNUSED)
    from infra.runtime import telling  # noqa: PLC0415
    from infra.runtime.instance import Options  # noqa: PLC0415
    from infra.runtime.supervisor import Supervisor  # noqa: PLC0415

    telling.set_up(Layout.of(settings), settings.log_level)
    return Supervisor(Options(settings, address=address, demo=demo)).run()


def down(data: DataOption = None) -> None:
    """Stop the hub cleanly: close the doors, seal, commit, end every process."""
    layout = Layout.over(data)
    state = HubState.load(layout)
    process = processes.look_up(state.supervisor_pid) if state is not None else None
    if state is None or process is None or not _runs(state):
        print(f"no hub runs over {layout.data}")
        return
    started = time.monotonic()
    print("stopping: the doors close, and what was acknowledged is committed …", flush=True)
    processes.send([process], signal.SIGTERM)
    if processes.wait_gone([process], deadline_s=STOP_DEADLINE_S):
        raise CommandFailed(
            f"the hub still runs after {STOP_DEADLINE_S:.0f} s (pid {state.supervisor_pid})",
            hint=f"Logs are in {layout.logs}; kill -9 loses nothing that was acknowledged.",
        )
    print(f"stopped after {time.monotonic() - started:.0f} s; the data stays in {layout.data}")


def status(
    data: DataOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """What runs, versions, the loss ledger and the lag. Exit code 1 when the hub is not ready."""
    layout = Layout.over(data)
    state = HubState.load(layout)
    running = state is not None and _runs(state)
    report: dict[str, Any] = {"data": str(layout.data), "running": running}
    if state is not None:
        report["phase"] = state.phase if running else "stopped"
        keys = ("url", "otlp_grpc", "mlflow", "ray_address", "jobs_url", "supervisor_pid", "started_at", "version")
        report |= {key: getattr(state, key) for key in (*keys, "recoveries", "last_recovery_s")}
        report["ray_token"] = str(layout.token)
    if running:
        report |= _asked(data)
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        _print_report(report)
    if report.get("phase") != "ready" or "problem" in report:
        raise typer.Exit(1)


def _asked(data: Path | None) -> dict[str, Any]:
    """What the hub says about itself; a hub that does not answer is part of the report, not a failure of it."""
    from infra.cli.client import HubHttp  # noqa: PLC0415 - only here: HTTP takes a tenth of a second to import

    found: dict[str, Any] = {}
    try:
        hub = HubHttp.of(data)
        found["health"] = hub.ask("GET", "/api/v1/health")
        found["ledger"] = hub.ask("GET", "/api/v1/ledger")
    except HubError as error:
        found["problem"] = error.message
    return found


def _print_report(report: dict[str, Any]) -> None:
    from infra.cli.tables import show  # noqa: PLC0415 - only here: it draws with rich

    ledger = report.pop("ledger", None)
    show([{"what": key, "value": value} for key, value in report.items()])
    rows = ledger.get("tenants", [ledger]) if isinstance(ledger, dict) else ledger
    if rows:
        show(rows, title="ledger")


def _runs(state: HubState) -> bool:
    return processes.is_alive(state.supervisor_pid, state.supervisor_start)
