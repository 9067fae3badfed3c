"""Who may import whom, read from the import statements, those inside functions too."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("cluster", "actors", "models", "serving", "pipelines", "infra")

# Where a library may be imported. A library that is not named may be imported anywhere.
HOMES: dict[str, tuple[str, ...]] = {
    "ray": ("actors", "pipelines", "serving", "infra"),
    "fastapi": ("serving",),
    "starlette": ("serving",),
    "deltalake": (
        "cluster/lake",
        "actors/committer.py",
        "actors/compaction.py",
        "actors/corrections.py",
        "actors/upkeep.py",
        "pipelines",
    ),
    "sqlalchemy": ("cluster/metadata",),
    "typer": ("infra",),
    "duckdb": ("cluster/lake", "serving", "models/query", "infra/cli/ingest_rows.py"),
    "mlflow": ("cluster/artifacts.py", "infra"),
    "numba": ("cluster/compiled.py",),
}
# The driver that creates the actors and deploys the application stands above all rooms.
DRIVERS = ("infra/runtime/deploy.py", "infra/runtime/drain.py")


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module)
    return found


def _files(room: str) -> list[Path]:
    return [path for path in (ROOT / room).rglob("*.py") if "node_modules" not in path.parts]


def test_import_linter_holds() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("room", ROOMS)
def test_a_library_stays_in_its_home(room: str) -> None:
    astray = []
    for path in _files(room):
        place = path.relative_to(ROOT).as_posix()
        for module in _imports(path):
            homes = HOMES.get(module.split(".")[0])
            if homes is not None and not place.startswith(homes):
                astray.append(f"{place} imports {module}")
    assert astray == []


def test_infra_imports_cluster_only() -> None:
    astray = []
    for path in _files("infra"):
        place = path.relative_to(ROOT).as_posix()
        if place in DRIVERS:
            continue
        rooms = {module.split(".")[0] for module in _imports(path)} & set(ROOMS)
        astray += [f"{place} imports {room}" for room in rooms - {"infra", "cluster"}]
    assert astray == []


def test_nobody_hides_a_cycle_under_type_checking() -> None:
    places = [str(path) for room in ROOMS for path in _files(room) if "TYPE_CHECKING" in path.read_text()]
    assert places == []
