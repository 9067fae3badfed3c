"""What a person is told once the hub is ready: where everything is, and what to do next."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from infra.runtime.layout import HubState, Layout


def announce(state: HubState, layout: Layout, *, new_key: str | None, demo: bool) -> None:
    """Print it; the last line says how to stop the hub."""
    print("\n".join(lines(state, layout, new_key=new_key, demo=demo)))
    stop = "Ctrl-C" if sys.stdout.isatty() else f"`{command('down', layout)}`"
    print(f"{stop} stops it.", flush=True)


def lines(state: HubState, layout: Layout, *, new_key: str | None, demo: bool) -> list[str]:
    """Everything but the last line."""
    told = [
        f"LLM Analytics Hub {state.version} is ready.",
        f"  Dashboard   {state.url}/",
        f"  OTLP/gRPC   {state.otlp_grpc}",
        f"  OTLP/HTTP   {state.url}/v1/traces  /v1/logs  /v1/metrics",
        f"  MLflow      {state.mlflow}",
        f"  Data        {layout.data}",
    ]
    if new_key is not None:
        told += [f"  Admin key   {new_key}", f"              shown once; also in {layout.admin_key} (mode 600)"]
    else:
        told += [f"  Admin key   in {layout.admin_key}"]
    told += ["Next: open the dashboard and sign in with the admin key."]
    if demo:
        told += [
            "The demo sends the last 24 hours, or what is new since it last ran, then goes on live; "
            f"see {layout.logs / 'demo.log'}."
        ]
    else:
        told += ["Send a first event as README.md shows, or start with --demo to see a simulated platform."]
    return [*told, f"`{command('status', layout)}` tells what runs."]


def command(verb: str, layout: Layout) -> str:
    """How this person calls `llmhub VERB` over this folder: the script is on the path in an active environment only."""
    program = "llmhub" if shutil.which("llmhub") else "python3 -m infra"
    data = "" if layout.data == Path(".llmhub").resolve() else f" --data {layout.data}"
    return f"{program} {verb}{data}"
