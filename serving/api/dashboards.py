"""/api/v1/dashboards: boards that are kept, their versions, who may see them, and links to them."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Final, Literal

import msgspec
from fastapi import APIRouter, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from cluster.clock import format_rfc3339
from cluster.errors import RequestInvalid
from cluster.metadata.dashboard_links import Link, LinkStore
from cluster.metadata.dashboards import Asker, Dashboard, DashboardStore, Right
from models.boards.spec import BOARD_BYTES_MAX, Board, board_text, check_filters, parse_board
from models.query.source import Context
from serving.answers import json_answer
from serving.auth.authorise import AsReader
from serving.auth.links import LinkGate
from serving.auth.principal import Principal
from serving.auth.roles import Permission
from serving.limits import Bodies

router = APIRouter(prefix="/api/v1/dashboards", tags=["boards"])

# Anything else is no id of ours; a store need not be asked.
BoardId = Annotated[str, Path(pattern=r"^[a-z2-7]{24}$")]
LinkId = Annotated[str, Path(pattern=r"^[a-z2-7]{16}$")]

_ETAG: Final = re.compile(r'"v([0-9]{1,9})"')
_LINK_LIVES_S: Final = 7 * 86_400
_LINK_LIVES_S_MAX: Final = 366 * 86_400
_BOARD: Final = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "object", "required": ["title", "panels"]}}},
    }
}


class Sharing(BaseModel):
    """What other keys may do: those of the tenant, and those of its organisation's other tenants."""

    model_config = ConfigDict(extra="forbid")

    tenant: Literal["none", "view", "edit"]
    organisation: Literal["none", "view", "edit"]


class NewLink(BaseModel):
    """What a link shows and for how long; the newest version unless another is named."""

    model_config = ConfigDict(extra="forbid")

    expires_in_s: int = Field(default=_LINK_LIVES_S, ge=60, le=_LINK_LIVES_S_MAX)
    filters: list[str] = Field(default=[], max_length=12)
    version: int | None = Field(default=None, ge=1, le=10**9)


@router.get("", response_model=None)
async def list_dashboards(request: Request, principal: AsReader) -> Response:
    """Boards that the key may see, last changed first."""
    found = await asyncio.to_thread(_store(request).list_for, _asker(principal))
    return json_answer({"dashboards": [_dashboard_json(one) for one in found]})


@router.post("", status_code=201, response_model=None, openapi_extra=_BOARD)
async def create_dashboard(request: Request, principal: AsReader) -> Response:
    """Keep a new board; the body is the board, as `export` gives it."""
    board = await _sent(request, principal)
    return await _created(request, principal, board)


@router.get("/{dashboard_id}", response_model=None)
async def get_dashboard(request: Request, principal: AsReader, dashboard_id: BoardId) -> Response:
    """A board with its contents; the ETag names its version."""
    found, text = await asyncio.to_thread(_store(request).find, _asker(principal), dashboard_id)
    return _told(found, text)


@router.put("/{dashboard_id}", response_model=None, openapi_extra=_BOARD)
async def put_dashboard(request: Request, principal: AsReader, dashboard_id: BoardId) -> Response:
    """Keep a new version; `If-Match` is the ETag of the version that was changed."""
    held = _held(request)
    board = await _sent(request, principal)
    return await _saved(request, principal, dashboard_id, board_text(board).decode(), held=held)


@router.delete("/{dashboard_id}", status_code=204, response_model=None)
async def delete_dashboard(request: Request, principal: AsReader, dashboard_id: BoardId) -> Response:
    """Remove a board with its versions and links."""
    await asyncio.to_thread(_store(request).delete, _asker(principal), dashboard_id)
    return Response(status_code=204)


@router.post("/{dashboard_id}/copy", status_code=201, response_model=None)
async def copy_dashboard(request: Request, principal: AsReader, dashboard_id: BoardId) -> Response:
    """A board of the key's own with the same contents."""
    _, text = await asyncio.to_thread(_store(request).find, _asker(principal), dashboard_id)
    board = msgspec.json.decode(text, type=Board)
    return await _created(request, principal, msgspec.structs.replace(board, title=f"Copy of {board.title}"[:200]))


@router.get("/{dashboard_id}/export", response_model=None)
async def export_dashboard(request: Request, principal: AsReader, dashboard_id: BoardId) -> Response:
    """The board alone, as a file that POST takes here and in any other hub."""
    _, text = await asyncio.to_thread(_store(request).find, _asker(principal), dashboard_id)
    headers = {"content-disposition": f'attachment; filename="board-{dashboard_id}.json"'}
    return Response(text, media_type="application/json", headers=headers)


@router.put("/{dashboard_id}/sharing", response_model=None)
async def share_dashboard(request: Request, principal: AsReader, dashboard_id: BoardId, sharing: Sharing) -> Response:
    """Who else may see or change the board; no right reaches any rows but the reader's own."""
    tenant, organisation = Right[sharing.tenant.upper()], Right[sharing.organisation.upper()]

    def share() -> Dashboard:
        return _store(request).share(_asker(principal), dashboard_id, tenant=tenant, organisation=organisation)

    return json_answer(_dashboard_json(await asyncio.to_thread(share)))


@router.get("/{dashboard_id}/versions", response_model=None)
async def list_versions(request: Request, principal: AsReader, dashboard_id: BoardId) -> Response:
    """The versions that are still kept, newest first."""
    found = await asyncio.to_thread(_store(request).versions, _asker(principal), dashboard_id)
    return json_answer(
        {
            "versions": [
                {"version": one.version, "created_at": format_rfc3339(one.created_at_us), "created_by": one.created_by}
                for one in found
            ]
        }
    )


@router.get("/{dashboard_id}/versions/{version}", response_model=None)
async def get_version(request: Request, principal: AsReader, dashboard_id: BoardId, version: int) -> Response:
    """The board as it was in one version."""
    found, text = await _at_version(request, principal, dashboard_id, version)
    return _told(found, text)


@router.post("/{dashboard_id}/versions/{version}/restore", response_model=None)
async def restore_version(request: Request, principal: AsReader, dashboard_id: BoardId, version: int) -> Response:
    """Keep an earlier version as the newest; `If-Match` as for PUT."""
    held = _held(request)
    _, text = await _at_version(request, principal, dashboard_id, version)
    return await _saved(request, principal, dashboard_id, text, held=held)


@router.get("/{dashboard_id}/links", response_model=None)
async def list_links(request: Request, principal: AsReader, dashboard_id: BoardId) -> Response:
    """Links to the board, newest first, the ended ones too; never their tokens."""
    found = await asyncio.to_thread(_links(request).list_of, _asker(principal), dashboard_id)
    return json_answer({"links": [_link_json(one) for one in found]})


@router.post("/{dashboard_id}/links", status_code=201, response_model=None)
async def create_link(request: Request, principal: AsReader, dashboard_id: BoardId, new: NewLink) -> Response:
    """A signed link to one version, for the rows that this key sees. `token` is told here and never again."""
    found, text = await _at_version(request, principal, dashboard_id, new.version)
    version = new.version or found.version
    check_filters(msgspec.json.decode(text, type=Board), new.filters, _context(request, principal))

    def create() -> Link:
        return _links(request).create(
            _asker(principal), dashboard_id, version=version, filters=tuple(new.filters), live_s=new.expires_in_s
        )

    link = await asyncio.to_thread(create)
    gate: LinkGate = request.app.state.links
    token = await gate.token(link, principal)
    return json_answer({**_link_json(link), "token": token, "path": f"/embed/{dashboard_id}?token={token}"}, 201)


@router.delete("/{dashboard_id}/links/{link_id}", response_model=None)
async def revoke_link(request: Request, principal: AsReader, dashboard_id: BoardId, link_id: LinkId) -> Response:
    """End a link at once."""
    link = await asyncio.to_thread(_links(request).revoke, _asker(principal), dashboard_id, link_id)
    return json_answer(_link_json(link))


async def _sent(request: Request, principal: Principal) -> Board:
    bodies: Bodies = request.app.state.bodies
    async with bodies.body(request, sent_max=BOARD_BYTES_MAX) as body:
        return parse_board(body, _context(request, principal))


async def _created(request: Request, principal: Principal, board: Board) -> Response:
    text = board_text(board).decode()
    made = await asyncio.to_thread(_store(request).create, _asker(principal), board.title, text)
    return _told(made, text, 201)


async def _saved(request: Request, principal: Principal, dashboard_id: str, text: str, *, held: int) -> Response:
    title = msgspec.json.decode(text, type=Board).title

    def save() -> Dashboard:
        return _store(request).save(_asker(principal), dashboard_id, text, title=title, held=held)

    return _told(await asyncio.to_thread(save), text)


async def _at_version(
    request: Request, principal: Principal, dashboard_id: str, version: int | None
) -> tuple[Dashboard, str]:
    if version is not None and not 1 <= version <= 10**9:
        raise RequestInvalid(
            "version is not a whole number from 1 on", hint="GET …/versions lists those that are kept."
        )
    return await asyncio.to_thread(_store(request).find, _asker(principal), dashboard_id, version)


def _held(request: Request) -> int:
    found = _ETAG.fullmatch(request.headers.get("if-match", "").strip())
    if found is None:
        raise RequestInvalid(
            "If-Match is missing or is no ETag of a board",
            hint='Send the ETag of the version you changed, as If-Match: "v3".',
        )
    return int(found[1])


def _asker(principal: Principal) -> Asker:
    return Asker(
        key_id=principal.key_id,
        tenant=principal.tenant,
        organisation_id=principal.organisation_id,
        is_admin=Permission.ADMIN in principal.permissions,
    )


def _context(request: Request, principal: Principal) -> Context:
    state = request.app.state
    return Context(now_us=state.clock.now_us(), tenants=(principal.tenant,), groups_max=state.settings.groups_max)


def _store(request: Request) -> DashboardStore:
    store: DashboardStore = request.app.state.dashboards
    return store


def _links(request: Request) -> LinkStore:
    store: LinkStore = request.app.state.dashboard_links
    return store


def _told(dashboard: Dashboard, text: str, status: int = 200) -> Response:
    body = {**_dashboard_json(dashboard), "board": msgspec.json.decode(text)}
    return json_answer(body, status, {"etag": f'"v{dashboard.version}"', "cache-control": "private, no-cache"})


def _dashboard_json(dashboard: Dashboard) -> dict[str, Any]:
    return {
        "dashboard_id": dashboard.dashboard_id,
        "title": dashboard.title,
        "tenant_id": dashboard.tenant_id,
        "owner": dashboard.owner_key_id,
        "version": dashboard.version,
        "right": dashboard.right.name.lower(),
        "sharing": {
            "tenant": dashboard.tenant_right.name.lower(),
            "organisation": dashboard.organisation_right.name.lower(),
        },
        "created_at": format_rfc3339(dashboard.created_at_us),
        "changed_at": format_rfc3339(dashboard.changed_at_us),
    }


def _link_json(link: Link) -> dict[str, Any]:
    return {
        "link_id": link.link_id,
        "dashboard_id": link.dashboard_id,
        "version": link.version,
        "filters": list(link.filters),
        "created_at": format_rfc3339(link.created_at_us),
        "created_by": link.created_by,
        "expires_at": format_rfc3339(link.expires_at_us),
        "revoked_at": None if link.revoked_at_us is None else format_rfc3339(link.revoked_at_us),
    }
