"""`llmhub query` and `llmhub sql`: the requests of the HTTP API, printed as a table."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from infra.cli.administration import KeyOption, UrlOption
from infra.cli.client import HubHttp
from infra.cli.running import DataOption
from infra.cli.tables import Form, form_of, show

JsonOption = Annotated[bool, typer.Option("--json", help="JSON instead of a table.")]
CsvOption = Annotated[bool, typer.Option("--csv", help="CSV instead of a table.")]


def query(
    measure: Annotated[list[str], typer.Argument(help="Measures, as `GET /api/v1/catalog` names them.")],
    *,
    start: Annotated[str, typer.Option("--from", help="RFC 3339 or relative, as -24h.")] = "-24h",
    end: Annotated[str, typer.Option("--to", help="RFC 3339 or relative.")] = "now",
    granularity: Annotated[str, typer.Option(help="auto 1m 5m 15m 1h 6h 1d; without it one row per group.")] = "",
    group_by: Annotated[list[str] | None, typer.Option(help="Dimension; may be given more than once.")] = None,
    filters: Annotated[list[str] | None, typer.Option("--filter", help="field:op:value; may be repeated.")] = None,
    order: Annotated[str, typer.Option(help="Measure to sort by.")] = "",
    limit: Annotated[int, typer.Option(help="Most rows; 0 leaves it to the hub.")] = 0,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Ask for measures over a time range."""
    parameters: dict[str, Any] = {"measure": measure, "from": start, "to": end}
    parameters |= {"group_by": group_by or [], "filter": filters or []}
    path = "/api/v1/metrics/aggregates"
    if granularity:
        path = "/api/v1/metrics/timeseries"
        parameters["granularity"] = granularity
    else:
        parameters |= {"order": order} if order else {}
        parameters |= {"limit": limit} if limit else {}
    answer = HubHttp.of(data, url=url, key=key).ask("GET", path, params=parameters)
    show(rows_of(answer), form=form_of(as_json=as_json, as_csv=as_csv))


def rows_of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """An answer of the metrics paths as flat rows: group columns, then the values."""
    if "series" in answer:
        return [
            {"time": point[0], **series["group"], series["measure"]: point[1]}
            for series in answer["series"]
            for point in series["points"]
        ]
    return [{**row["group"], **row["values"]} for row in answer["rows"]]


def sql(
    statement: Annotated[str, typer.Argument(help="One SELECT over events, rollup_1m, rollup_1h, rollup_1d.")],
    *,
    limit: Annotated[int, typer.Option(help="Most rows; 0 leaves it to the hub.")] = 0,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Ask in SQL, read-only, over the tenant's own rows."""
    form = form_of(as_json=as_json, as_csv=as_csv)
    body: dict[str, Any] = {"sql": statement} | ({"limit": limit} if limit else {})
    hub = HubHttp.of(data, url=url, key=key)
    accept = "text/csv" if form is Form.CSV else "application/json"
    response = hub.send("POST", "/api/v1/sql", json=body, headers={"accept": accept})
    if form is Form.CSV:
        print(response.text, end="")
        return
    answer = response.json()
    rows = answer.get("rows", answer) if isinstance(answer, dict) else answer
    if rows and isinstance(rows[0], list):
        rows = [dict(zip(answer["columns"], row, strict=True)) for row in rows]
    show(rows, form=form)
