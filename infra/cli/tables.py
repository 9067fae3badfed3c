"""What commands print: a table for people, JSON or CSV for programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.table import Table


class Form(StrEnum):
    """How rows are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def form_of(*, as_json: bool, as_csv: bool) -> Form:
    if as_json:
        return Form.JSON
    return Form.CSV if as_csv else Form.TABLE


def show(rows: Sequence[Mapping[str, Any]], *, form: Form = Form.TABLE, title: str = "") -> None:
    """Print rows that need not all have the same columns; the order of first appearance is kept."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if form is Form.JSON:
        print(json.dumps(list(rows), indent=2, default=str))
        return
    if form is Form.CSV:
        writer = csv.writer(sys.stdout)
        writer.writerow(columns)
        writer.writerows([_inert(_text(row.get(name))) for name in columns] for row in rows)
        return
    table = Table(title=title or None, title_justify="left")
    for name in columns:
        numeric = any(isinstance(row.get(name), int | float) for row in rows)
        # Folded, not cut: an id or a key with dots at its end is none.
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_text(row.get(name)) for name in columns))
    Console().print(table)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, separators=(",", ":"), default=str)
    return str(value)


def _inert(text: str) -> str:
    """A spreadsheet takes a cell that starts like this for a formula; numbers are left as they are."""
    if text.startswith(("=", "+", "-", "@")) and not _is_number(text):
        return "'" + text
    return text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
