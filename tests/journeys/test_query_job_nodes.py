"""A question as a job over two simulated nodes: tasks run on both, and the answer is the direct one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.journey, pytest.mark.timeout(600)]


def test_a_job_reads_on_both_nodes_and_answers_as_one_process_does(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.bench.jobs", "--events", "300000", "--nodes", "2", "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    [told] = json.loads(figures.read_text())["nodes"]
    assert (told["nodes_used"], told["rows"], told["equal"]) == (2, 300_000, True)
