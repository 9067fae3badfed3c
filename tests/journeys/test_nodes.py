"""A worker node is lost during ingest, in a process of its own: Ray's variables are read when it is imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.journey, pytest.mark.timeout(900)]


def test_the_loss_of_a_node_breaks_no_promise() -> None:
    done = subprocess.run([sys.executable, "-m", "tests.journeys.nodes"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
