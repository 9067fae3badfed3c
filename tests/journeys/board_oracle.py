"""What a panel's table must hold, worked out again from the very answers that the page received."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest

from tests.journeys.board_pages import Row

Asked = list[tuple[str, dict[str, Any], Any]]


def compare(rows: list[Row], asked: Asked) -> int:
    """Assert that every number of the table is the answer's; how many numbers were compared."""
    path, parameters, answer = asked[0]
    if "series" in answer:
        return _series(rows, answer["series"])
    if "columns" in answer:
        return _records(rows, answer["rows"])
    if path == "/api/v1/ledger" or "reasons" in answer:
        return _records(rows, _ledger_rows(rows, answer))
    for name, apart in (
        ("events", ()),
        ("traces", ()),
        ("anomalies", ("from", "to", "entity")),
        ("detectors", ("state",)),
    ):
        if name in answer:
            # Told in other words: instants that are no `_at`, places and states.
            return _records(rows, [{key: one[key] for key in one if key not in apart} for one in answer[name]])
    if "cohorts" in answer:
        ratios = [ratio for one in answer["cohorts"] if one["size"] for ratio in one["ratios"]]
        return _column(rows, "ratio", ratios)
    if "cells" in answer:
        return _column(rows, "count", [count for _, _, count in answer["cells"]])
    if "steps" in answer:
        return _column(rows, "count", [step["count"] for step in answer["steps"]])
    if "bounds" in answer:
        return _bins(rows, answer)
    if "spans" in answer:
        return _column(rows, "duration", [span["latency_ms"] or 0 for span in answer["spans"]])
    return _groups(rows, parameters, answer)


def is_empty(answer: Any) -> bool:
    """Nothing in the answer can be drawn: no rows, or nothing but zeros and nulls."""
    return not any(_numbers(answer))


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        kept = [one for name, one in value.items() if name not in ("version", "window_s", "group_count", "share")]
        return [number for one in kept for number in _numbers(one)]
    if isinstance(value, list):
        return [number for one in value for number in _numbers(one)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) and value else []


def _same(cell: str, value: Any) -> None:
    if value is None:
        assert cell == ""
    else:
        assert float(cell) == pytest.approx(float(value), rel=1e-9, abs=1e-12)


def _column(rows: list[Row], key: str, values: list[Any]) -> int:
    cells = [dict(row)[key] for row in rows]
    assert len(cells) == len(values)
    for cell, value in zip(cells, values, strict=True):
        _same(cell, value)
    return len(cells)


def _records(rows: list[Row], told: list[dict[str, Any]]) -> int:
    assert len(rows) == len(told)
    compared = 0
    for row, record in zip(rows, told, strict=True):
        for key, cell in row:
            value = record.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                _same(cell, value)
                compared += 1
            elif isinstance(value, str) and not key.endswith("_at"):
                assert cell == value
                compared += 1
    return compared


def _ledger_rows(rows: list[Row], answer: dict[str, Any]) -> list[dict[str, Any]]:
    """The part of the ledger or of readiness that the table is about, by the columns it has."""
    keys = {key for key, _ in rows[0]}
    if "reasons" in answer:
        reasons = answer["reasons"] or ["every part answers"]
        return [{"status": answer["status"], "reason": reason} for reason in reasons]
    if "shard" in keys:
        return list(answer["shards"])
    if "tenant_id" in keys:
        return list(answer["tenants"])
    total, shards = answer["total"], answer["shards"]
    sent = total["accepted"] + total["repeated"] + total["dead_letters"]
    up = [shard for shard in shards if shard["state"] == "serving"]
    values = (
        min(1.0, total["committed"] / total["accepted"]) if total["accepted"] else None,
        answer["freshness_s"],
        total["dead_letters"] / sent if sent else None,
        len(up) / len(shards),
    )
    return [{"value": value} for value in values]


def _bins(rows: list[Row], answer: dict[str, Any]) -> int:
    groups = answer["rows"]
    assert len(rows) == len(answer["bounds"])
    for place, row in enumerate(rows):
        cells = [cell for key, cell in row[1:]]
        assert len(cells) == len(groups)
        for cell, group in zip(cells, groups, strict=True):
            _same(cell, group["counts"][place])
    return len(rows) * len(groups)


def _series(rows: list[Row], series: list[dict[str, Any]]) -> int:
    """Each series stands in a column of its own, or within the column of all others."""
    told = [
        {"name": one.get("measure", one.get("quantile", "ratio"))}
        | {point[0][:19]: point[1] for point in one["points"]}
        for one in series
        if any(point[1] for point in one["points"]) or not one["group"]
    ]
    # Measures that are only calculated with are not drawn.
    drawn_measures = {key.partition(" ")[0] for key, _ in rows[0][1:] if key not in ("before", "\0other")}
    told = [one for one in told if not drawn_measures or one["name"] in drawn_measures]
    compared = 0
    for row in rows:
        at, cells = row[0][1][:19], [cell for key, cell in row[1:] if key not in ("before", "\0other")]
        other = [cell for key, cell in row[1:] if key == "\0other"]
        values = [one[at] for one in told if one.get(at) is not None]
        drawn = [float(cell) for cell in cells if cell]
        if other:
            assert sum(drawn) + float(other[0] or 0) == pytest.approx(sum(values), rel=1e-9, abs=1e-12)
        else:
            assert sorted(drawn) == pytest.approx(sorted(values), rel=1e-9, abs=1e-12)
        compared += len(drawn)
    return compared


def _groups(rows: list[Row], parameters: dict[str, Any], answer: dict[str, Any]) -> int:
    """Rows of groups: every number printed beside a name is one told of that group."""
    fields = list(parameters.get("group_by", []))
    told = {_name(one["group"], fields): one for one in answer["rows"]}
    for name in ("rest", "other", "unallocated"):
        if name in answer:
            title = "Unallocated" if name == "unallocated" else "Other"
            told[(title,) * max(1, len(fields))] = answer[name]
    if not fields and rows and all(len(row) == 2 for row in rows):
        values = answer["rows"][0]["values"]
        assert Counter(round(float(row[1][1] or 0), 9) for row in rows) == Counter(
            round(float(value or 0), 9) for value in values.values()
        )
        return len(rows)
    compared = 0
    for row in rows:
        width = max(1, len(fields))
        one = told[tuple(cell for _, cell in row[:width]) if fields else ("All",)]
        flat = {**one, **one.get("values", {})}
        flat |= {f"before {name}": value for name, value in (one.get("previous") or one.get("baseline") or {}).items()}
        for key, cell in row[width:]:
            _same(cell, flat[key])
            compared += 1
    assert compared or not any(math.isfinite(number) for number in _numbers(answer["rows"]))
    return compared


def _name(group: dict[str, Any], fields: list[str]) -> tuple[str, ...]:
    names = tuple("Other" if group[one] == "__other__" else group[one] or "(none)" for one in fields)
    return names or ("All",)
