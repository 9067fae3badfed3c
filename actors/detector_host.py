"""The detector in its own process: one thread that ticks, at low priority, and never ends by what it meets."""

from __future__ import annotations

import os
import threading
from typing import Final

import structlog

from actors.detector import Detector
from actors.hosts import RemoteCommits
from actors.judges import Judges
from actors.retraining import Retraining
from cluster.clock import SystemClock
from cluster.errors import HubError
from cluster.metadata.feedback import FeedbackStore
from cluster.metadata.schema import open_metadata
from cluster.settings import Settings
from cluster.telemetry import configure_log

log = structlog.get_logger("detector")

TICK_S: Final = 0.5
_NICE: Final = 5


class DetectorHost:
    """Ray shell of `Detector`."""

    def __init__(self, settings: Settings) -> None:
        configure_log(settings.log_level)
        # Intake comes first when both want the cores.
        os.nice(_NICE)
        self._settings = settings
        self._ended = threading.Event()
        self._ticks = 0
        self._failure = ""
        self._detector: Detector | None = None
        self._retraining = Retraining(settings, SystemClock())
        self._thread = threading.Thread(target=self._run, name="detector", daemon=True)
        self._thread.start()

    def status(self) -> dict[str, object]:
        """Ticks made, the last failure, and why entities have no score."""
        states = {} if self._detector is None else self._detector.states()
        return {"ticks": self._ticks, "failure": self._failure, "states": states, "pid": os.getpid()}

    def drain(self) -> None:
        """End the thread after its tick."""
        self._ended.set()
        self._thread.join()
        self._retraining.close()

    def _run(self) -> None:
        while not self._ended.wait(TICK_S):
            try:
                if self._detector is None:
                    self._detector = self._made()
                self._detector.tick()
                self._retraining.look()
                self._ticks += 1
                self._failure = ""
            except (HubError, OSError) as error:
                self._failure = str(error)[:300]
                log.warning("tick_failed", error=self._failure)
            except Exception as error:
                # One tenant's rows must not end the watch over all.
                self._failure = repr(error)[:300]
                log.exception("tick_failed", error=self._failure)

    def _made(self) -> Detector:
        clock = SystemClock()
        return Detector(
            self._settings,
            clock=clock,
            commits=RemoteCommits(self._settings),
            judges=Judges(self._settings, clock),
            feedback=FeedbackStore(open_metadata(self._settings, clock), clock),
        )
