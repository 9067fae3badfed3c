"""Kinds of detectors by name, each a module with `fit` and `load`.

A module is imported when its kind is asked for: torch takes seconds and hundreds of megabytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Generic, Protocol, TypeVar, cast

from models.anomaly.refusals import DetectorUnknown, ModelUnreadable
from models.anomaly.scores import Arrays, Progress

Data_contra = TypeVar("Data_contra", contravariant=True)
Made_co = TypeVar("Made_co", covariant=True)


class Kind(Protocol[Data_contra, Made_co]):
    """What the module of a kind has."""

    def fit(self, data: Data_contra, /, *, seed: int, progress: Progress | None) -> Made_co: ...

    def load(self, arrays: Arrays, configuration: dict[str, Any]) -> Made_co: ...


@dataclass(frozen=True, slots=True)
class Kinds(Generic[Data_contra, Made_co]):
    """A table of kinds that read the same.

    Attributes:
        modules: kind -> module.
        noun: what one of them is called in a refusal.
    """

    modules: Mapping[str, str]
    noun: str

    def fit(self, kind: str, data: Data_contra, *, seed: int, progress: Progress | None = None) -> Made_co:
        """A detector of that kind.

        Raises:
            DetectorUnknown, and what the kind raises.
        """
        return self._module(kind).fit(data, seed=seed, progress=progress)

    def load(self, kind: str, arrays: Arrays, configuration: dict[str, Any]) -> Made_co:
        """From arrays and configuration: scores are the same to the last bit.

        Raises:
            DetectorUnknown: no such kind.
            ModelUnreadable: an array or entry is absent or does not fit.
        """
        module = self._module(kind)
        try:
            return module.load(arrays, configuration)
        except (KeyError, ValueError, TypeError, RuntimeError, IndexError) as error:
            raise ModelUnreadable(f"this is no {kind} {self.noun}: {error}") from error

    def _module(self, kind: str) -> Kind[Data_contra, Made_co]:
        if kind not in self.modules:
            raise DetectorUnknown(f"no {self.noun} {kind!r}", hint=f"There are: {', '.join(self.modules)}.")
        return cast("Kind[Data_contra, Made_co]", import_module(self.modules[kind]))
