"""Loops that NumPy cannot say, compiled to machine code by Numba and kept on disk.

For the few places where every byte or every row of a body is looked at. A compiled function takes arrays, numbers and
named tuples of such, holds no Python object and lets go of the interpreter lock, so that two bodies are read at a time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar, cast

# Where compiled functions are.
ROOMS: Final = ("cluster", "actors", "models")

Function = TypeVar("Function", bound=Callable[..., Any])


def _cache_folder() -> Path:
    """A folder of its own for each state of the sources that hold compiled functions.

    Numba looks at the file of a function alone, and would go on with what it once compiled of functions called there.
    """
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(path for room in ROOMS for path in (root / room).rglob("*.py")):
        content = path.read_bytes()
        if b"cluster.compiled" in content or path == Path(__file__):
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + content)
    return Path(__file__).parent / "__pycache__" / f"compiled-{digest.hexdigest()[:16]}"


def _use_cache() -> None:
    folder = _cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        # A read-only installation: Numba looks for a place of its own.
        return
    os.environ.setdefault("NUMBA_CACHE_DIR", str(folder))


_use_cache()
import numba  # noqa: E402 - it reads the variable once, here


def compiled(function: Function) -> Function:
    """Decorator. The first call with new types compiles, which takes seconds; later processes read it from disk.

    Callers keep to one set of types (dtype, contiguous, writable or not): each other set is compiled anew.
    """
    # error_model: a division by zero gives infinity as in NumPy; otherwise each division could raise.
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def compiled_step(function: Function) -> Function:
    """Decorator of what compiled functions call for each value: as `compiled`, but it may not make arrays.

    Without counting references to the arrays it is given, which its caller holds anyway; counting them, with atomic
    operations, takes two thirds of the time of a function that reads a few bytes.
    """
    step = numba.njit(cache=True, nogil=True, error_model="numpy", _nrt=False)(function)  # type: ignore[call-overload]
    return cast(Function, step)
