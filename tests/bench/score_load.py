"""Clients that score over HTTP as fast as they are answered, with something else beside them in the second half."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Final

import httpx2
import numpy as np

CLIENTS: Final = 50
LOAD_S: Final = 20.0
# After an exchange: until the alias was seen and the model loaded.
_SEEN_AFTER_S: Final = 6.0


async def load_of(
    url: str, key: str, body: dict[str, Any], *, exchange: Callable[[], None] | None = None
) -> dict[str, Any]:
    """Latencies of CLIENTS closed-loop clients over LOAD_S; `exchange` runs beside them after half of it."""
    quiet: list[float] = []
    busy: list[float] = []
    versions: set[int] = set()
    dropped = 0
    began, swapping = time.monotonic(), False
    content = json.dumps(body).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}

    async def client(session: httpx2.AsyncClient) -> None:
        nonlocal dropped
        while time.monotonic() - began < LOAD_S or swapping:
            started = time.perf_counter()
            answer = await session.post(f"{url}/api/v1/score", content=content, headers=headers)
            (busy if swapping else quiet).append(1000 * (time.perf_counter() - started))
            if answer.status_code == 200:
                versions.add(answer.json()["version"])
            else:
                dropped += 1

    async def swap() -> None:
        nonlocal swapping
        await asyncio.sleep(LOAD_S / 2)
        if exchange is not None:
            swapping = True
            await asyncio.to_thread(exchange)
            await asyncio.sleep(_SEEN_AFTER_S)
            swapping = False

    async with httpx2.AsyncClient(timeout=60, limits=httpx2.Limits(max_connections=CLIENTS)) as session:
        await asyncio.gather(swap(), *(client(session) for _ in range(CLIENTS)))
    told = {
        "clients": CLIENTS,
        "windows_per_request": len(body["windows"]),
        "requests": len(quiet) + len(busy),
        "requests_per_s": round(len(quiet) / (LOAD_S / 2 if exchange else LOAD_S), 1),
        "score_p50_ms": round(float(np.percentile(quiet, 50)), 1),
        "score_p99_ms": round(float(np.percentile(quiet, 99)), 1),
        "dropped_requests": dropped,
        "none_dropped": dropped == 0,
        "versions": sorted(versions),
    }
    return told | ({"score_p99_ms_while_a_job_runs": round(float(np.percentile(busy, 99)), 1)} if busy else {})
