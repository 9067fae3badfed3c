"""Files and functions stay small enough to be read: a file past its limit is two nouns."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("cluster", "actors", "models", "serving", "pipelines", "infra", "tests")
FILE_LINES_MAX = 350
FUNCTION_LINES_MAX = 60
POSITIONAL_MAX = 4
NAMELESS = ("utils", "util", "helpers", "helper", "common", "misc", "base", "constants")

SOURCES = sorted(
    path
    for room in ROOMS
    for path in (ROOT / room).rglob("*.py")
    if "node_modules" not in path.parts and "static" not in path.parts
)


def _functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_one_noun(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= FILE_LINES_MAX
    assert path.stem not in NAMELESS
    assert path.read_text().startswith(('"""', "#!")), "a module says in its first line what it is for"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_function_fits_a_screen(path: Path) -> None:
    for function in _functions(path):
        lines = (function.end_lineno or function.lineno) - function.lineno + 1
        assert lines <= FUNCTION_LINES_MAX, f"{function.name} has {lines} lines"
        if "tests" in path.parts:
            # Fixtures are given to a test by name, not by position.
            continue
        given = [one.arg for one in [*function.args.posonlyargs, *function.args.args] if one.arg not in ("self", "cls")]
        assert len(given) <= POSITIONAL_MAX, f"{function.name} takes {len(given)} by position"


def test_every_code_folder_is_a_package() -> None:
    folders = {path.parent for path in SOURCES}
    assert [str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()] == []
