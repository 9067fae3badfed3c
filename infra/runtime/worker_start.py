"""Stands where Ray expects `setup_worker.py`: gives a worker its environment, then becomes the worker.

Ray's own imports all of Ray to read one line of JSON, and starts a second Python that imports it again: 0.7 s of one
core for each worker. Here the same process goes on where nothing has to be decided before Python starts; whatever is
more than a few variables is left to Ray's own. Only the standard library.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_CONTEXT, _LANGUAGE = "--serialized-runtime-env-context=", "--language="
# Variables that Python and the loader read only after their start, if at all.
_HARMLESS = ("HUB_", "RAY_", "__RAY_")


def variables_of(words: Sequence[str]) -> Mapping[str, str] | None:
    """What the environment of a worker adds; None when the worker needs more than that."""
    told = [word for word in words if word.startswith((_CONTEXT, _LANGUAGE))]
    if f"{_LANGUAGE}PYTHON" not in told or len(told) != 2:
        return None
    text = next(word for word in told if word.startswith(_CONTEXT)).removeprefix(_CONTEXT)
    context: dict[str, Any] = json.loads(text)
    variables: dict[str, str] = context.pop("env_vars", None) or {}
    if context.pop("py_executable", None) not in (None, sys.executable) or any(context.values()):
        return None
    # A dollar asks for the value of another variable.
    if any("$" in value or not name.startswith(_HARMLESS) for name, value in variables.items()):
        return None
    return variables


def main(words: Sequence[str]) -> None:
    """Run the worker, whose path is the first word, with the rest as its options."""
    worker = Path(words[0])
    # The folder of this file is no place to import from; Python put it there.
    sys.path[0] = str(worker.parent)
    variables = variables_of(words)
    if variables is None:
        ours = worker.with_name("setup_worker.py")
        sys.argv = [str(ours), *words]
        runpy.run_path(str(ours), run_name="__main__")
        return
    os.environ.update(variables)
    sys.argv = [word for word in words if not word.startswith((_CONTEXT, _LANGUAGE))]
    runpy.run_path(str(worker), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])
