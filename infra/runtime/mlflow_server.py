"""The MLflow server: SQLite and artifacts under the data folder, one worker, on loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request

from cluster.settings import Settings
from infra.runtime import processes
from infra.runtime.edge import ROOT
from infra.runtime.layout import Layout, StartFailed
from infra.runtime.ray_head import last_lines

# Generous: it imports for seconds, and a machine under load takes many times that.
START_DEADLINE_S = 300.0


def launch(settings: Settings, layout: Layout) -> subprocess.Popen[bytes]:
    """Start the server without waiting for it. Training jobs and people on this machine reach it; nobody else does."""
    artifacts = layout.mlflow / "artifacts"
    artifacts.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "infra.runtime.mlflow_process", str(layout.mlflow), str(settings.mlflow_port)]
    # Pickled models run code when they are loaded; MLflow's own switch against it is on by default here.
    variables = {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    # Its job runner would be more processes, for features the hub does not use.
    variables["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
    variables["PYTHONPATH"] = str(ROOT)
    with open(layout.logs / "mlflow.log", "ab") as log:
        return subprocess.Popen(
            command,
            cwd=layout.mlflow,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def wait_started(process: subprocess.Popen[bytes], settings: Settings, layout: Layout) -> None:
    """Wait for the first healthy answer.

    Raises:
        StartFailed: the server ended or did not answer in time.
    """
    url = f"http://127.0.0.1:{settings.mlflow_port}/health"

    def settled() -> bool:
        return process.poll() is not None or answers(url)

    if not processes.wait_until(settled, deadline_s=START_DEADLINE_S, every_s=0.2) or process.poll() is not None:
        raise StartFailed(f"MLflow did not start: {last_lines(layout.logs / 'mlflow.log')}")


def answers(url: str, *, timeout_s: float = 2.0) -> bool:
    """Whether GET answers 200."""
    try:
        with urllib.request.urlopen(url, timeout=timeout_s) as response:  # noqa: S310 - our own http URLs
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False
