"""The body of POST /api/v1/score, read and checked: windows as one array, or the one reason why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from cluster.errors import BodyUnreadable, RequestInvalid
from models.anomaly.fleet import POOLED
from models.anomaly.refusals import SeriesInvalid, SpansInvalid
from models.anomaly.series import FEATURES_MAX, Matrix
from models.query.times import parse_instant

WINDOWS_MAX: Final = 20_000
ROWS_MAX: Final = 4_096
VALUES_MAX: Final = 8 * 1024 * 1024
# Names of detectors as the outside knows them, where they differ.
_ALIASES: Final = {"gnn": "gnn_metric"}
_TRACE_ALIASES: Final = {"gnn": "gnn_trace"}


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """As it is sent."""

    detector: str
    windows: list[list[list[float | None]]] | None = None
    traces: list[dict[str, Any]] | None = None
    features: list[str] | None = None
    # One for all windows, or one for each.
    entity: str | list[str] = POOLED
    start: str | list[str] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ScoreRequest:
    """A checked request.

    Attributes:
        windows: (w, n, f), NaN = missing; empty where traces are scored.
        features: None where the order of the detector is meant.
        entities, starts_us: one for each window.
    """

    detector: str
    windows: Matrix
    features: tuple[str, ...] | None
    entities: tuple[str, ...]
    starts_us: tuple[int, ...]
    traces: tuple[dict[str, Any], ...] = ()


_decoder: Final = msgspec.json.Decoder(Body)


def parse_score(content: bytes) -> ScoreRequest:
    """Read a body.

    Raises:
        BodyUnreadable: no JSON. RequestInvalid: other fields or types. SeriesInvalid: windows of no even shape.
    """
    try:
        body = _decoder.decode(content)
    except msgspec.ValidationError as error:
        raise RequestInvalid(str(error)[:300], hint=_EXAMPLE) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BodyUnreadable("the body is not JSON") from error
    detector = _ALIASES.get(body.detector, body.detector)
    if (body.windows is None) == (body.traces is None):
        raise RequestInvalid("send either windows or traces", hint=_EXAMPLE)
    if body.traces is not None:
        if not body.traces:
            raise SpansInvalid("no traces", hint=_EXAMPLE)
        detector = _TRACE_ALIASES.get(body.detector, body.detector)
        return ScoreRequest(detector, np.zeros((0, 0, 0), np.float32), None, (), (), tuple(body.traces))
    windows = _windows(body.windows or [])
    count = windows.shape[0]
    starts = _each(body.start or "1970-01-01T00:00:00Z", count, "start")
    return ScoreRequest(
        detector,
        windows,
        None if body.features is None else tuple(body.features),
        _each(body.entity, count, "entity"),
        tuple(parse_instant("start", text, now_us=0) for text in starts),
    )


def _windows(told: list[list[list[float | None]]]) -> Matrix:
    if not 1 <= len(told) <= WINDOWS_MAX:
        raise SeriesInvalid(f"{len(told)} windows; 1 to {WINDOWS_MAX} are allowed")
    rows = len(told[0])
    features = len(told[0][0]) if rows else 0
    if not 1 <= rows <= ROWS_MAX or not 1 <= features <= FEATURES_MAX:
        raise SeriesInvalid(
            f"the first window has {rows} rows of {features} features",
            hint=f"Send 1 to {ROWS_MAX} rows of 1 to {FEATURES_MAX} features.",
        )
    for at, window in enumerate(told):
        if len(window) != rows or any(len(row) != features for row in window):
            raise SeriesInvalid(
                f"window {at} is not of {rows} rows of {features} values as the first is",
                hint="Send windows of one shape in a request; null where a value is missing.",
            )
    if len(told) * rows * features > VALUES_MAX:
        raise SeriesInvalid(f"{len(told) * rows * features} values; at most {VALUES_MAX} are allowed")
    with np.errstate(over="ignore"):
        windows = np.array(told, np.float32)
    if np.isinf(windows).any():
        at, row, column = np.argwhere(np.isinf(windows))[0].tolist()
        raise SeriesInvalid(
            f"value {column} of row {row} of window {at} is infinite or beyond single precision",
            hint="Send null where a value is missing.",
        )
    return windows


def _each(told: str | list[str], count: int, name: str) -> tuple[str, ...]:
    if isinstance(told, str):
        return (told,) * count
    if len(told) != count:
        raise RequestInvalid(f"{name} has {len(told)} entries for {count} windows")
    return tuple(told)


_EXAMPLE: Final = '{"detector":"autoencoder","entity":"service=chat,...","windows":[[[0.1,null,2.0]]]}'
