"""GET /api/v1/prices: the price book as it prices the caller's calls, with the version of every price."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response

from cluster.clock import format_rfc3339
from cluster.contract.prices import TIERS, price_json
from cluster.errors import RequestInvalid
from cluster.metadata.prices import EVERYBODY, Kept, PriceStore
from models.pricing.book import PriceBook
from models.query.times import parse_instant
from serving.answers import json_answer
from serving.api.reading import asked, parameters
from serving.auth.authorise import AsReader

router = APIRouter(prefix="/api/v1", tags=["reading"])

_NAMES: Final = ("provider", "model", "tier", "at")


@router.get(
    "/prices",
    response_model=None,
    openapi_extra=asked(
        ("provider", "only of this provider, as `openai`", False),
        ("model", "only prices that this name of a model finds", False),
        ("tier", f"only of this service tier: {', '.join(TIERS)}", False),
        ("at", "only what holds at this instant: RFC 3339 or relative", False),
    ),
)
async def prices(request: Request, principal: AsReader) -> Response:
    """Prices of the hub's own table and those the tenant told of, by provider, model, tier and begin.

    Of two that hold at once the tenant's own goes first; `at` leaves only the one that prices a call.
    """
    told = dict(parameters(request))
    if unknown := sorted(told.keys() - set(_NAMES)):
        raise RequestInvalid(f"{unknown[0][:80]!r} is not a parameter", hint=f"Known: {', '.join(_NAMES)}.")
    clock, store = request.app.state.clock, PriceStore(request.app.state.metadata, request.app.state.clock)
    at_us = parse_instant("at", told["at"], now_us=clock.now_us()) if "at" in told else None

    def look() -> list[dict[str, Any]]:
        kept = store.kept(principal.tenant)
        found = [one for one in kept if _fits(one, told)]
        if at_us is not None:
            found = _holding(found, PriceBook((one.tenant, one.price) for one in kept), principal.tenant, at_us)
        found.sort(key=lambda one: (one.price.provider, one.price.model, one.price.tier, one.price.from_us))
        return [_json(one) for one in found]

    return json_answer({"prices": await asyncio.to_thread(look)})


def _fits(kept: Kept, told: dict[str, str]) -> bool:
    price, model = kept.price, told.get("model", "").lower()
    named = not model or any(
        model.startswith(name[:-1]) if name.endswith("*") else model == name for name in price.matches
    )
    others = {"provider": price.provider, "tier": price.tier}
    return named and all(told.get(name, value) == value for name, value in others.items())


def _holding(found: list[Kept], book: PriceBook, tenant: str, at_us: int) -> list[Kept]:
    return [
        one
        for one in found
        if (holds := book.at(tenant, (one.price.provider, one.price.model, one.price.tier), at_us)) is not None
        and holds.version == one.price.version
    ]


def _json(kept: Kept) -> dict[str, Any]:
    return {
        "version": kept.price.version,
        "told_by": "hub" if kept.tenant == EVERYBODY else "tenant",
        "told_at": None if kept.told_at_us is None else format_rfc3339(kept.told_at_us),
        **price_json(kept.price),
    }
