"""The `llmhub` command: exit codes, one clear line, the shapes it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.cli.asking import rows_of
from infra.cli.tables import Form, show


def llmhub(*words: str, data: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HUB_")} | {"HUB_DATA": str(data)}
    command = [sys.executable, "-m", "infra.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize(
    "words",
    [("dance",), ("up", "--port", "many"), ("job", "../etc"), ("job", "no_such_pipeline"), ("bench", "no_such_bench")],
)
def test_wrong_usage_exits_2(words: tuple[str, ...], tmp_path: Path) -> None:
    assert llmhub(*words, data=tmp_path).returncode == 2


def test_a_failure_is_one_line_and_exit_1(tmp_path: Path) -> None:
    done = llmhub("keys", "list", data=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("llmhub: no API key\n")
    assert "Traceback" not in done.stderr


def test_status_of_nothing_is_told_as_json(tmp_path: Path) -> None:
    done = llmhub("status", "--json", data=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"data": str(tmp_path), "running": False}


def test_down_without_a_hub_is_no_failure(tmp_path: Path) -> None:
    assert llmhub("down", data=tmp_path).returncode == 0


def test_a_setting_that_does_not_exist_is_named(tmp_path: Path) -> None:
    environment = os.environ | {"HUB_DATA": str(tmp_path), "HUB_SHARDZ": "2"}
    command = [sys.executable, "-m", "infra.cli", "up"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert "HUB_SHARDZ" in done.stderr


def test_series_become_rows() -> None:
    series = [{"measure": "cost_usd", "unit": "USD", "group": {"model": "m"}, "points": [["2026-01-01T00:00:00Z", 2]]}]
    assert rows_of({"series": series}) == [{"time": "2026-01-01T00:00:00Z", "model": "m", "cost_usd": 2}]
    assert rows_of({"rows": [{"group": {"model": "m"}, "values": {"n": 1}}]}) == [{"model": "m", "n": 1}]


def test_csv_cells_are_no_formulas(capsys: pytest.CaptureFixture[str]) -> None:
    show([{"a": "=1+1", "b": -2, "c": "@x"}], form=Form.CSV)
    assert capsys.readouterr().out.splitlines() == ["a,b,c", "'=1+1,-2,'@x"]
