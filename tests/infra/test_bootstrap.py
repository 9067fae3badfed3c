"""Set-up: what makes it run again, and the verbs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import compiled
from infra import bootstrap
from infra.__main__ import main


def test_the_stamp_follows_every_source(tmp_path: Path) -> None:
    project, pins = tmp_path / "pyproject.toml", tmp_path / "constraints.txt"
    project.write_text("a")
    pins.write_text("b")
    first = bootstrap.stamp_of((project, pins))
    assert bootstrap.stamp_of((project, pins)) == first
    pins.write_text("c")
    changed = bootstrap.stamp_of((project, pins))
    assert changed != first
    # Content moved from one file to the other is another state.
    project.write_text("")
    pins.write_text("ac")
    assert bootstrap.stamp_of((project, pins)) not in (first, changed)


def test_set_up_compiles_again_what_the_cache_goes_by() -> None:
    assert bootstrap.COMPILED_ROOMS == compiled.ROOMS
    sources = bootstrap.compiled_sources()
    assert Path(compiled.__file__) in sources
    assert {path.parent.name for path in sources} >= {"cluster", "contract", "actors"}


def test_the_pins_name_no_host() -> None:
    pins = bootstrap.CONSTRAINTS.read_text()
    assert "://" not in pins
    assert re.search(r"^ray==2\.60\.\d+$", pins, re.M)
    assert all(re.match(r"^[A-Za-z0-9._-]+==\S+( ; .+)?$", line) for line in pins.splitlines())


def test_set_up_needs_the_standard_library_only() -> None:
    """-S hides site packages, -I the working folder: what is left is what a fresh Python has."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import infra.__main__"
    done = subprocess.run(
        [sys.executable, "-S", "-I", "-c", code, str(bootstrap.ROOT)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_unknown_verb_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dance"]) == 2
    assert "unknown verb 'dance'" in capsys.readouterr().err


def test_help_needs_no_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "python3 -m infra" in capsys.readouterr().out
