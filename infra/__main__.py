"""`python3 -m infra VERB`: the commands of the project, from nothing but Python.

Only the standard library until `.venv` exists; then the same words run again inside it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

from infra import bootstrap

USAGE = """usage: python3 -m infra VERB [options]

  up [--demo] [options of `llmhub up`]   set up if needed, then run the hub until Ctrl-C
  down, status, bench …                  the `llmhub` command of that name
  test [pytest options]                  lint, format check, types, tests with coverage
  check                                  lint, format check, types, the rules of the house
  format                                 rewrite the sources in the house's format
  docs                                   check that docs name every setting, route, measure and metric
  setup                                  only make or refresh .venv and the web build
"""

PYTHON = str(bootstrap.PYTHON)
LINT = ("ruff", [PYTHON, "-m", "ruff", "check", "."])
LAYOUT = ("ruff format", [PYTHON, "-m", "ruff", "format", "--check", "."])
TYPES = ("mypy", [PYTHON, "-m", "mypy"])
HOUSE = ("rules of the house", [PYTHON, "-m", "pytest", "-q", "tests/house"])
COVERAGE = ["--cov", "--cov-report=term:skip-covered"]
# Each process of tests may start a hub or a Ray of its own; `-n 0` after `test` runs them in one.
PROCESSES_MAX = 4
SIDE_BY_SIDE = ["-n", str(min(PROCESSES_MAX, os.cpu_count() or 1))]

LLMHUB_VERBS = ("up", "down", "status", "bench")


def main(arguments: Sequence[str]) -> int:
    """Exit code: 0 success, 1 a step failed, 2 wrong usage."""
    verb, *rest = arguments or ["--help"]
    if verb in ("-h", "--help"):
        print(USAGE)
        return 0
    steps = _steps(verb, rest)
    if steps is None and verb not in (*LLMHUB_VERBS, "setup"):
        print(f"unknown verb {verb!r}\n\n{USAGE}", file=sys.stderr)
        return 2
    try:
        bootstrap.make_ready()
    except bootstrap.SetupFailed as failure:
        print(f"set-up failed: {failure}", file=sys.stderr)
        return 1
    if verb in LLMHUB_VERBS:
        # Replaces this process, so that Ctrl-C and the exit code are the hub's own.
        os.execv(PYTHON, [PYTHON, "-m", "infra.cli", verb, *rest])  # noqa: S606 - no shell is the point
    return _run(steps or [])


def _steps(verb: str, rest: Sequence[str]) -> list[tuple[str, list[str]]] | None:
    tests = ("pytest", [PYTHON, "-m", "pytest", *COVERAGE, *SIDE_BY_SIDE, *rest])
    table = {
        "test": [LINT, LAYOUT, TYPES, tests],
        "check": [LINT, LAYOUT, TYPES, HOUSE],
        "format": [
            ("ruff fix", [PYTHON, "-m", "ruff", "check", "--fix", "."]),
            ("ruff format", [PYTHON, "-m", "ruff", "format", "."]),
        ],
        "docs": [HOUSE],
    }
    return table.get(verb)


def _run(steps: Sequence[tuple[str, list[str]]]) -> int:
    """Run each step in order, tell its time, stop at the first that fails."""
    for name, command in steps:
        started = time.monotonic()
        print(f"== {name}", flush=True)
        code = subprocess.call(command, cwd=bootstrap.ROOT)
        print(f"== {name}: {'ok' if code == 0 else 'FAILED'} in {time.monotonic() - started:.1f} s", flush=True)
        if code != 0:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
