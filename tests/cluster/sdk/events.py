"""Events and the key of the door that takes them."""

from __future__ import annotations

from typing import Any

KEY = "hub_stand_in_key"


def event(number: int, **more: Any) -> dict[str, Any]:
    """A valid event with an id."""
    return {
        "event_id": f"e-{number}",
        "occurred_at": "2026-01-01T00:00:00Z",
        "module": "gateway",
        "kind": "gateway.request",
        "model": "m-1",
        **more,
    }
