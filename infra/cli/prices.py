"""`llmhub prices`: the price book, with the version that stands on every row it priced."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import typer

from infra.cli.administration import JsonOption, KeyOption, TenantOption, UrlOption
from infra.cli.client import HubHttp
from infra.cli.running import DataOption
from infra.cli.tables import show

_COLUMNS: Final = {
    "input": "input_usd_per_mtok",
    "cache read": "cache_read_usd_per_mtok",
    "cache write": "cache_write_usd_per_mtok",
    "output": "output_usd_per_mtok",
}


def prices(
    *,
    provider: Annotated[str, typer.Option(help="Only of this provider.")] = "",
    model: Annotated[str, typer.Option(help="Only prices that this name of a model finds.")] = "",
    tier: Annotated[str, typer.Option(help="Only of this tier: standard, batch, flex or priority.")] = "",
    at: Annotated[str, typer.Option(help="Only what holds at this instant: RFC 3339, or as -30d.")] = "",
    tenant: TenantOption = "",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show prices in USD for a million tokens; a step above a count of input tokens has a row of its own."""
    told = {"provider": provider, "model": model, "tier": tier, "at": at, "tenant": tenant}
    asked = {name: value for name, value in told.items() if value}
    found = HubHttp.of(data, url=url, key=key).ask("GET", "/api/v1/prices", params=asked)["prices"]
    if as_json:
        print(json.dumps(found, indent=2))
        return
    show([row for price in found for row in _rows(price)])


def _rows(price: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each step of a price."""
    steps = [{"input_tokens_above": 0, **price}, *price["above"]]
    names = {"provider": price["provider"], "model": price["model"], "tier": price["tier"]}
    begins = {"from": price["effective_from"][:10], "to": (price.get("effective_to") or "")[:10]}
    return [
        {
            **names,
            **begins,
            "above": step["input_tokens_above"] or "",
            **{name: step.get(column, "") for name, column in _COLUMNS.items()},
            "told by": price["told_by"],
            "version": price["version"],
        }
        for step in steps
    ]
