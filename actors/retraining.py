"""Starts the job that looks after champions, each `HUB_RETRAIN_HOURS`, one at a time, as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import ray
import structlog

from cluster.clock import Clock
from cluster.lake.files import replace
from cluster.settings import Settings

log = structlog.get_logger("retraining")

ROOT: Final = Path(__file__).resolve().parents[1]
JOB: Final = "pipelines.retrain"
_NICE: Final = 10


class Retraining:
    """Called often; does something seldom. The last start is kept in a file, so that a restart starts nothing."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._folder = settings.data / "training"
        self._noted = self._folder / "retrain.json"
        self._running: subprocess.Popen[bytes] | None = None

    def look(self) -> bool:
        """Start the job if its time has come; whether it was started."""
        if self._running is not None:
            code = self._running.poll()
            if code is None:
                return False
            log.info("retrain_ended", code=code)
            self._running = None
        if not self.due():
            return False
        self._running = self._start()
        log.info("retrain_started", pid=self._running.pid)
        return True

    def due(self) -> bool:
        """Whether its time has come; the first time begins with the hub."""
        hours = self._settings.retrain_hours
        if hours <= 0:
            return False
        if not self._noted.exists():
            self._note()
        started_us = int(json.loads(self._noted.read_bytes())["started_us"])
        return self._clock.now_us() - started_us >= hours * 3_600_000_000

    def close(self) -> None:
        """End a job that runs; the next one begins anew."""
        if self._running is not None:
            self._running.terminate()

    def _start(self) -> subprocess.Popen[bytes]:
        self._note()
        address = ray.get_runtime_context().gcs_address
        environment = {**os.environ, **self._settings.environment(), "RAY_ADDRESS": address, "PYTHONPATH": str(ROOT)}
        with (self._folder / "retrain.log").open("ab") as out:
            return subprocess.Popen(
                ["nice", "-n", str(_NICE), sys.executable, "-m", JOB],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def _note(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        replace(self._noted, json.dumps({"started_us": self._clock.now_us()}).encode())
