"""`llmhub up`, `down` and `status`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from cluster.errors import HubError
from cluster.settings import Settings
from infra.cli.client import CommandFailed, HubHttp, layout_of
from infra.cli.tables import show
from infra.runtime import processes
from infra.runtime.layout import HubState, Layout

START_DEADLINE_S = 900.0
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
    environment["HUB_DATA"] = str(layout_of(data).data)
    settings = Settings.from_environment(environment)
    if detach:
        _start_detached(Layout.of(settings), environment, address=address, demo=demo)
        return
    # Imported here: it needs a second that the other commands save.
    from infra.runtime import telling  # noqa: PLC0415
    from infra.runtime.instance import Options  # noqa: PLC0415
    from infra.runtime.supervisor import Supervisor  # noqa: PLC0415

    telling.set_up(Layout.of(settings), settings.log_level)
    raise typer.Exit(Supervisor(Options(settings, address=address, demo=demo)).run())


def _start_detached(layout: Layout, environment: dict[str, str], *, address: str, demo: bool) -> None:
    command = [sys.executable, "-m", "infra.cli", "up"]
    command += ["--address", address] if address else []
    command += ["--demo"] if demo else []
    layout.make()
    output = layout.logs / "up.log"
    with open(output, "wb") as log:
        child = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def settled() -> bool:
        state = HubState.load(layout)
        is_ready = state is not None and state.supervisor_pid == child.pid and state.phase == "ready"
        return is_ready or child.poll() is not None

    with Console(stderr=True).status("starting the hub"):
        processes.wait_until(settled, deadline_s=START_DEADLINE_S, every_s=0.2)
    if child.poll() is not None:
        told = output.read_text(errors="replace").strip().removeprefix("llmhub: ")
        raise CommandFailed(told or "the hub did not start")
    print(output.read_text(errors="replace"), end="")


def down(data: DataOption = None) -> None:
    """Stop the hub cleanly: close the doors, seal, commit, end every process."""
    # Imported here for the same reason as in `up`.
    from infra.runtime.instance import ask_to_stop  # noqa: PLC0415

    layout = layout_of(data)
    state = HubState.load(layout)
    if state is None or not _runs(state):
        print(f"no hub runs over {layout.data}")
        return
    with Console(stderr=True).status("stopping the hub"):
        stopped = ask_to_stop(state, deadline_s=STOP_DEADLINE_S)
    if not stopped:
        raise CommandFailed(
            f"the hub still runs after {STOP_DEADLINE_S:.0f} s (pid {state.supervisor_pid})",
            hint=f"Logs are in {layout.logs}; kill -9 loses nothing that was acknowledged.",
        )
    print("stopped")


def status(
    data: DataOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """What runs, versions, the loss ledger and the lag. Exit code 1 when the hub is not ready."""
    layout = layout_of(data)
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
    found: dict[str, Any] = {}
    try:
        hub = HubHttp.of(data)
        found["health"] = hub.ask("GET", "/api/v1/health")
        found["ledger"] = hub.ask("GET", "/api/v1/ledger")
    except HubError as error:
        found["problem"] = error.message
    return found


def _print_report(report: dict[str, Any]) -> None:
    ledger = report.pop("ledger", None)
    show([{"what": key, "value": value} for key, value in report.items()])
    rows = ledger.get("tenants", [ledger]) if isinstance(ledger, dict) else ledger
    if rows:
        show(rows, title="ledger")


def _runs(state: HubState) -> bool:
    return processes.is_alive(state.supervisor_pid, state.supervisor_start)
