"""Clients that score over HTTP, at a pace or as fast as they are answered, with something else beside them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import orjson

from tests.bench.connections import Connections

CLIENTS: Final = 50
LOAD_S: Final = 20.0
# After an exchange: until the alias was seen and the model loaded.
_SEEN_AFTER_S: Final = 6.0


async def load_of(
    url: str, key: str, body: dict[str, Any], *, exchange: Callable[[], None] | None = None, every_s: float = 0.0
) -> dict[str, Any]:
    """Latencies of CLIENTS clients over LOAD_S; `exchange` runs beside them after half of it.

    Args:
        every_s: from one request of a client to its next, or until its answer if that takes longer; they begin evenly
            spread.
    """
    quiet: list[float] = []
    busy: list[float] = []
    versions: set[int] = set()
    dropped = 0
    began, swapping = time.monotonic(), False
    content = json.dumps(body).encode()
    connections = Connections(url, key)

    async def client(number: int) -> None:
        nonlocal dropped
        due_s = began + every_s * number / CLIENTS
        while time.monotonic() - began < LOAD_S or swapping:
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            due_s = max(due_s, time.monotonic()) + every_s
            started = time.perf_counter()
            try:
                status, answer = await connections.post("/api/v1/score", content)
            except ConnectionError:
                dropped += 1
                continue
            (busy if swapping else quiet).append(1000 * (time.perf_counter() - started))
            if status == 200:
                versions.add(orjson.loads(answer)["version"])
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

    await asyncio.gather(swap(), *(client(number) for number in range(CLIENTS)))
    connections.close()
    told = {
        "clients": CLIENTS,
        "every_s": every_s,
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
