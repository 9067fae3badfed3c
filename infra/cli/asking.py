"""`llmhub query`: the questions of the catalogue, printed as a table."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import typer

from infra.cli.administration import KeyOption, UrlOption
from infra.cli.client import HubHttp
from infra.cli.following import answer_of
from infra.cli.running import DataOption
from infra.cli.tables import form_of, show

JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
JobOption = Annotated[bool, typer.Option("--job", help="Run it as a job, as large ones are anyway, and follow it.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="CSV instead of a table.")]


# Positional words stand for these parameters of a kind, the last one for all words that are left; else for measures.
_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "percentile": ("field", "quantile"),
    "histogram": ("field",),
    "heatmap": ("field",),
    "ratio": ("numerator", "denominator"),
    "search": ("q",),
    "trace": ("trace_id",),
    "session": ("session_id",),
    "cost_allocation": ("group_by",),
    "cohort": ("entity",),
    "funnel": ("step",),
    "distinct": ("field",),
}
_MEASURES: Final = ("measure",)
# Of a span: told by --json.
_NESTED: Final = ("events", "tokens", "children")
# What a table shows of these; --csv and --json have every field.
_SHOWN: Final[dict[str, tuple[str, ...]]] = {
    "events": ("occurred_at", "event_id", "kind", "status", "service", "model", "user_id", "latency_ms", "cost_usd"),
    "spans": ("depth", "id", "started_at", "service", "operation", "model", "status", "latency_ms", "cost_usd"),
    "traces": ("trace_id", "started_at", "duration_ms", "request_count", "error_event_count", "cost_usd"),
}
_RATIO: Final = ("ratio", "numerator", "denominator")


def query(
    kind: Annotated[
        str,
        typer.Argument(
            help="timeseries aggregate percentile histogram heatmap top ratio compare search trace session "
            "cost_allocation cohort funnel distinct as_of"
        ),
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="Measures, as `GET /api/v1/catalog` names them; the id of a trace or session, the text of a search, "
            "the field of a distribution, the steps of a funnel."
        ),
    ] = None,
    *,
    start: Annotated[str, typer.Option("--from", help="RFC 3339 or relative, as -24h.")] = "",
    end: Annotated[str, typer.Option("--to", help="RFC 3339 or relative.")] = "",
    granularity: Annotated[str, typer.Option(help="auto 1m 5m 15m 1h 6h 1d.")] = "",
    group_by: Annotated[list[str] | None, typer.Option(help="Dimension; may be given more than once.")] = None,
    filters: Annotated[list[str] | None, typer.Option("--filter", help="field:op:value; may be repeated.")] = None,
    order: Annotated[str, typer.Option(help="Measure to sort by.")] = "",
    limit: Annotated[int, typer.Option(help="Most rows; 0 leaves it to the hub.")] = 0,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE: any other parameter of the kind; may be repeated.")
    ] = None,
    as_job: JobOption = False,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Ask a question of the catalogue, e.g. `llmhub query top cost_usd --group-by model --limit 5`."""
    pairs = [("from", start), ("to", end), ("granularity", granularity), ("order", order)]
    pairs += [("limit", str(limit) if limit else "")]
    pairs += [("group_by", name) for name in group_by or []] + [("filter", text) for text in filters or []]
    for text in settings or []:
        name, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"--set {text!r} is not NAME=VALUE")
        pairs.append((name, value))
    inner = next((value for name, value in pairs if name == "of"), "aggregate") if kind == "as_of" else kind
    names = _WORDS.get(inner, _MEASURES)
    pairs += [(names[min(place, len(names) - 1)], word) for place, word in enumerate(words or [])]
    body: dict[str, Any] = {"kind": kind}
    for name, value in pairs:
        if value:
            body.setdefault(name, []).append(value)
    text = answer_of(HubHttp.of(data, url=url, key=key), body, as_job=as_job)
    if as_json:
        # As it came: with tier and version, and with every digit of money.
        print(text)
        return
    answer = json.loads(text)
    rows = rows_of(answer)
    if not as_csv:
        shown = next((_SHOWN[name] for name in _SHOWN if name in answer), None)
        rows = [{name: _short(row[name]) for name in shown or row if name in row} for row in rows]
    show(rows, form=form_of(as_json=False, as_csv=as_csv))


def rows_of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """An answer of the catalogue as flat rows: group columns, then the values."""
    if "series" in answer:
        return [row for series in answer["series"] for row in _points(series)]
    if "cells" in answer:
        return [
            {"time": answer["times"][time], "above": low, "to": high, "count": count}
            for time, place, count in answer["cells"]
            for low, high in (answer["bounds"][place],)
        ]
    if "bounds" in answer:
        return [
            {**row["group"], "above": low, "to": high, "count": count}
            for row in answer["rows"]
            for (low, high), count in zip(answer["bounds"], row["counts"], strict=True)
        ]
    if "spans" in answer:
        return [{name: value for name, value in span.items() if name not in _NESTED} for span in answer["spans"]]
    for name in ("events", "traces", "steps", "cohorts"):
        if name in answer:
            return [dict(row) for row in answer[name]]
    first = next(iter(answer["rows"][0].get("group", ())), "group") if answer["rows"] else "group"
    rest = [{first: f"({name})", **_row(answer[name])} for name in ("rest", "other", "unallocated") if name in answer]
    return [_row(row) for row in answer["rows"]] + rest


def _points(series: dict[str, Any]) -> list[dict[str, Any]]:
    named = series.get("measure") or series.get("quantile")
    columns = (named,) if named else _RATIO
    return [
        {"time": point[0], **series["group"], **dict(zip(columns, point[1:], strict=True))}
        for point in series["points"]
    ]


def _short(value: Any) -> Any:
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """Group and values side by side; what stands against the values has its name before theirs."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if name in ("group", "values"):
            flat |= value
        elif isinstance(value, dict):
            flat |= {f"{name}_{inner}": told for inner, told in value.items()}
        else:
            flat[name] = value
    return flat
