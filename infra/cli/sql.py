"""`llmhub sql`: one SELECT over the tenant's own rows, printed as a table."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Annotated, Any

import typer

from infra.cli.administration import KeyOption, UrlOption
from infra.cli.asking import CsvOption, JsonOption
from infra.cli.client import HubHttp
from infra.cli.running import DataOption
from infra.cli.tables import show


def sql(
    statement: Annotated[
        str,
        typer.Argument(help="One SELECT over events, rollup_1m, rollup_1h, rollup_1d, dead_letters; `-` reads it."),
    ],
    *,
    parameters: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="Value of the next `?`, or NAME=VALUE of $NAME.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Most rows; 0 leaves it to the hub.")] = 0,
    as_of: Annotated[str, typer.Option(help="A time, or TABLE=VERSION.")] = "",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Ask in SQL, read-only, e.g. `llmhub sql "SELECT model, sum(cost_usd) FROM events GROUP BY 1"`."""
    text = typer.get_text_stream("stdin").read() if statement == "-" else statement
    body: dict[str, Any] = {"sql": text, "parameters": _parameters(text, parameters or [])}
    if limit:
        body["limit"] = limit
    if as_of:
        table, equals, version = as_of.partition("=")
        body["as_of"] = {table: int(version)} if equals and version.isdigit() else as_of
    headers = {"accept": "text/csv" if as_csv else "application/json"}
    hub = HubHttp.of(data, url=url, key=key)
    if as_csv or as_json:
        # As it comes: every digit of money, the names of columns where there are no rows, and no end of rows kept here.
        out = typer.get_binary_stream("stdout")
        hub.copy("POST", "/api/v1/sql", out, json=body, headers=headers)
        out.write(b"" if as_csv else b"\n")
        return
    response = hub.send("POST", "/api/v1/sql", json=body, headers=headers)
    # Every digit of money, here too.
    answer = json.loads(response.text, parse_float=Decimal)
    show(answer["rows"])
    if answer["truncated"]:
        typer.echo(f"The first {answer['row_count']} rows; --limit asks for more.", err=True)
    if not answer["rows"]:
        typer.echo("No rows.", err=True)


def _parameters(text: str, given: list[str]) -> list[Any] | dict[str, Any]:
    """Values as they are written: `$name` in the text takes NAME=VALUE, `?` takes them in their order."""
    pairs = [one.partition("=") for one in given]
    if given and all(equals and f"${name}" in text for name, equals, _ in pairs):
        return {name: _value(value) for name, _, value in pairs}
    return [_value(one) for one in given]


def _value(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
