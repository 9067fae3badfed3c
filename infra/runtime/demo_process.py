"""The simulated LLM platform of `--demo`, as a process beside the hub that uses its public doors only."""

from __future__ import annotations

import os
import subprocess
import sys

from cluster.settings import Settings
from infra.runtime.edge import ROOT
from infra.runtime.layout import Layout


def launch(settings: Settings, layout: Layout, url: str) -> subprocess.Popen[bytes]:
    """Start it with the admin key of the data folder; its output goes to `demo.log`."""
    key = layout.admin_key.read_text().strip()
    variables = {"HUB_URL": url, "HUB_API_KEY": key, "HUB_DATA": str(layout.data)}
    with open(layout.logs / "demo.log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "infra.demo"],
            cwd=ROOT,
            env={**os.environ, **settings.environment(), **variables},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
