"""`llmhub keys` and `llmhub tenants`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import quote

import typer

from infra.cli.client import HubHttp
from infra.cli.running import DataOption
from infra.cli.tables import show

keys = typer.Typer(help="API keys: create, list, rotate, revoke.", no_args_is_help=True)
tenants = typer.Typer(help="Tenants: create, list, quota.", no_args_is_help=True)

UrlOption = Annotated[str, typer.Option("--url", help="The hub (HUB_URL, else the one over --data).")]
KeyOption = Annotated[str, typer.Option("--key", help="Key to use (HUB_API_KEY, else DIR/admin.key).")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the hub's answer as JSON.")]


TenantOption = Annotated[str, typer.Option(help="Tenant it is about; the caller's own when not given.")]


@keys.command("create")
def create_key(
    *,
    tenant: TenantOption = "",
    scope: Annotated[list[str] | None, typer.Option(help="ingest, read or admin; may be given more than once.")] = None,
    name: Annotated[str, typer.Option(help="What the key is for; its scopes when not given.")] = "",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make a key. Its text is shown this once."""
    scopes = scope or ["ingest", "read"]
    # A list of keys without names tells nobody which one may be ended.
    body = {"scopes": scopes, "name": name or " ".join(scopes)}
    answer = HubHttp.of(data, url=url, key=key).ask("POST", "/api/v1/keys", json=body, params=_about(tenant))
    _show(answer, as_json)


@keys.command("list")
def list_keys(
    *,
    tenant: TenantOption = "",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Keys the caller may see, of all its tenants or of one, without their text."""
    _show(HubHttp.of(data, url=url, key=key).ask("GET", "/api/v1/keys", params=_about(tenant)), as_json)


@keys.command("rotate")
def rotate_key(
    key_id: Annotated[str, typer.Argument(help="Id of the key, as `keys list` shows it.")],
    *,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make a successor of a key; its text is shown this once."""
    _show(HubHttp.of(data, url=url, key=key).ask("POST", f"/api/v1/keys/{key_id}/rotate"), as_json)


@keys.command("revoke")
def revoke_key(
    key_id: Annotated[str, typer.Argument(help="Id of the key, as `keys list` shows it.")],
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
) -> None:
    """End a key. It stops working within seconds."""
    HubHttp.of(data, url=url, key=key).ask("DELETE", f"/api/v1/keys/{key_id}")
    print(f"revoked {key_id}")


@tenants.command("create")
def create_tenant(
    tenant: Annotated[str, typer.Argument(help="Id of the tenant.")],
    *,
    name: Annotated[str, typer.Option(help="Its name for people.")] = "",
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make a tenant."""
    body = {"tenant_id": tenant, "name": name}
    _show(HubHttp.of(data, url=url, key=key).ask("POST", "/api/v1/tenants", json=body), as_json)


@tenants.command("list")
def list_tenants(
    data: DataOption = None, url: UrlOption = "", key: KeyOption = "", as_json: JsonOption = False
) -> None:
    """Tenants the caller may see."""
    _show(HubHttp.of(data, url=url, key=key).ask("GET", "/api/v1/tenants"), as_json)


@tenants.command("quota")
def tenant_quota(
    tenant: Annotated[str, typer.Argument(help="Id of the tenant.")],
    *,
    events_per_s: Annotated[int | None, typer.Option(help="Events a second; 0 for no limit.")] = None,
    bytes_per_s: Annotated[int | None, typer.Option(help="Bytes of bodies as sent a second; 0 for no limit.")] = None,
    questions_per_s: Annotated[int | None, typer.Option(help="Questions a second; 0 for no limit.")] = None,
    burst_s: Annotated[float | None, typer.Option(help="Seconds of its rate that it may use at once.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Back to the hub's own settings.")] = False,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show a tenant's limits; with any option set them all, those not given to the hub's own settings."""
    limits = {
        "events_per_s": events_per_s,
        "bytes_per_s": bytes_per_s,
        "questions_per_s": questions_per_s,
        "burst_s": burst_s,
    }
    path = f"/api/v1/tenants/{quote(tenant, safe='')}/quota"
    _show(_limits(HubHttp.of(data, url=url, key=key), path, limits, reset=reset), as_json)


@tenants.command("retention")
def tenant_retention(
    tenant: Annotated[str, typer.Argument(help="Id of the tenant.")],
    *,
    hot_days: Annotated[int | None, typer.Option(help="Days of events and minutes; 0 for ever.")] = None,
    warm_days: Annotated[int | None, typer.Option(help="Days of hours; 0 for ever.")] = None,
    cold_days: Annotated[int | None, typer.Option(help="Days of days; 0 for ever.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Back to the hub's own settings.")] = False,
    data: DataOption = None,
    url: UrlOption = "",
    key: KeyOption = "",
    as_json: JsonOption = False,
) -> None:
    """Show how long a tenant's rows stay; with any option set it, what is not given to the hub's own settings."""
    days = {"hot_days": hot_days, "warm_days": warm_days, "cold_days": cold_days}
    path = f"/api/v1/tenants/{quote(tenant, safe='')}/retention"
    _show(_limits(HubHttp.of(data, url=url, key=key), path, days, reset=reset), as_json)


def _limits(hub: HubHttp, path: str, told: Mapping[str, float | None], *, reset: bool) -> Any:
    """What stands at a path, after what was told of it, if anything was."""
    changes = reset or any(value is not None for value in told.values())
    return hub.ask("PUT", path, json=dict(told)) if changes else hub.ask("GET", path)


def _about(tenant: str) -> dict[str, str]:
    """The query that names a tenant; a body never does."""
    return {"tenant": tenant} if tenant else {}


def _show(answer: Any, as_json: bool) -> None:
    """Rows of an answer that is an object around one list; one object as a row for each field, so that none is cut."""
    if isinstance(answer, dict):
        lists = [value for value in answer.values() if isinstance(value, list) and all(map(_is_row, value))]
        answer = lists[0] if len(lists) == 1 and len(answer) == 1 else answer
    if as_json:
        print(json.dumps(answer, indent=2))
    elif isinstance(answer, dict):
        show([{"what": name, "value": value} for name, value in answer.items() if value is not None])
    else:
        told = {name for row in answer for name, value in row.items() if value is not None}
        show([{name: value for name, value in row.items() if name in told} for row in answer])


def _is_row(value: object) -> bool:
    return isinstance(value, dict)
