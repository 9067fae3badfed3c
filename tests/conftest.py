"""Fixtures and profiles shared by every test."""

from __future__ import annotations

import os
import sys

import pytest
import structlog
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# As Ray's workers have it, in which models judge: of several threads the last bits depend on how the work is shared.
# Before NumPy and torch are imported, which read it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Parts that run in this process log from threads of their own, which must not write into what a command prints.
structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=sys.stderr))

# No deadline: this suite runs on shared machines, and a slow example is no wrong example.
settings.register_profile("hub", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60)
settings.load_profile("hub")


class InTurn(LoadScopeScheduling):
    """Where tests run in several processes, the journeys share one, and its hub; every other file stays whole."""

    def _split_scope(self, nodeid: str) -> str:
        return "journeys" if nodeid.startswith("tests/journeys/") else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> InTurn:
    """The scheduler of `-n`, whatever `--dist` says."""
    return InTurn(config, log)
