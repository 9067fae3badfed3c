"""What a process imports, decided from outside: modules it shall do without, and edits made when one is imported."""

from __future__ import annotations

import importlib.abc
import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

# Serve and Arrow import pandas where it is installed, for data frames that nobody here has: 0.5 s and 70 MB a process.
# structlog imports rich the same way, for a console.
UNUSED = ("pandas", "rich")

Edit = Callable[[ModuleType], None]


def hide(*names: str) -> None:
    """Let these packages look as if they were not installed, to code that asks and goes on without them."""
    sys.meta_path.insert(0, _Hidden(frozenset(names)))


def after(name: str, edit: Edit) -> None:
    """Edit a module: now when it was imported, else as soon as it is, before anybody else sees it.

    An edit that fails makes the import fail.
    """
    module = sys.modules.get(name)
    if module is not None:
        edit(module)
    else:
        sys.meta_path.insert(0, _Edited(name, edit))


class _Hidden(importlib.abc.MetaPathFinder):
    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name in self._names:
            raise ModuleNotFoundError(f"{name} is hidden from this process", name=name)
        return None


class _Edited(importlib.abc.MetaPathFinder):
    def __init__(self, name: str, edit: Edit) -> None:
        self._name = name
        self._edit = edit

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._edit)
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader, edit: Edit) -> None:
        self._loader = loader
        self._edit = edit

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._edit(module)
