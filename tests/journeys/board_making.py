"""Boards made through the API, for journeys that look at them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from tests.journeys.board_pages import Reader

RANKED = {"kind": "aggregate", "measure": ["cost_usd"], "group_by": ["model"], "order": ["-cost_usd"]}


def call(reader: Reader, method: str, path: str, body: Any = None) -> Any:
    """Ask the hub's API with the reader's key."""
    headers = {"authorization": f"Bearer {reader.key}", "content-type": "application/json"}
    content = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(f"{reader.url}/api/v1/{path}", content, headers, method=method)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return json.load(answer)


def tenant(reader: Reader, name: str, *, organisation: str | None = None) -> Reader:
    """A key that sends and reads for a tenant, which is made where it is not there yet; `reader` has an admin key."""
    if organisation is not None:
        _made(reader, "organisations", {"organisation_id": organisation})
    owner = {} if organisation is None else {"organisation_id": organisation}
    _made(reader, "tenants", {"tenant_id": name, "name": name.title(), **owner})
    key = call(reader, "POST", f"keys?tenant={name}", {"name": "journey", "scopes": ["ingest", "read"]})["key"]
    return Reader(reader.url, key)


def _made(reader: Reader, path: str, body: dict[str, Any]) -> None:
    try:
        call(reader, "POST", path, body)
    except urllib.error.HTTPError as refused:
        # Made by a journey before, over the same hub.
        if refused.code != 409:
            raise


def panel(name: str, x: int, query: dict[str, Any], kind: str = "horizontal_bar") -> dict[str, Any]:
    place = {"x": x, "y": 0, "w": 6, "h": 6}
    return {"id": name, "title": name, "kind": kind, "query": query, "place": place}


def kept(reader: Reader, *panels: dict[str, Any], **more: Any) -> str:
    name: str = call(reader, "POST", "dashboards", {"title": "Made", "panels": list(panels)} | more)["dashboard_id"]
    return name
