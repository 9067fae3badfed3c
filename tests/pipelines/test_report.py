"""How jobs end, and how they find the hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.errors import NotFound, RequestInvalid
from cluster.settings import Settings
from pipelines.hub_door import door_of
from pipelines.report import reported


def _gone() -> dict[str, int]:
    raise NotFound("no such day", hint="Look at the calendar.")


def test_a_report_is_printed_and_decides_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert reported(lambda: {"refused": 0}) == 0
    assert json.loads(capsys.readouterr().out) == {"refused": 0}
    assert reported(lambda: {"refused": 2}, lambda report: not report["refused"]) == 1
    assert json.loads(capsys.readouterr().out) == {"refused": 2}


def test_a_failure_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert reported(_gone) == 1
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "not_found: no such day. Look at the calendar.\n")


def test_the_key_is_the_one_told_else_of_the_environment_else_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HUB_API_KEY", raising=False)
    monkeypatch.delenv("HUB_URL", raising=False)
    settings = Settings(data=tmp_path, port=8123)
    with pytest.raises(RequestInvalid, match="no API key"):
        door_of({}, settings)
    (tmp_path / "admin.key").write_text("of-the-folder\n")
    assert door_of({}, settings) == ("http://127.0.0.1:8123", "of-the-folder")
    monkeypatch.setenv("HUB_API_KEY", "of-the-environment")
    monkeypatch.setenv("HUB_URL", "http://hub")
    assert door_of({}, settings) == ("http://hub", "of-the-environment")
    assert door_of({"key": "told", "url": "http://other"}, settings) == ("http://other", "told")
