"""The driver that takes the hub off a cluster: `python -m infra.runtime.drain < ADDRESS`.

The doors close first, then the shards seal and the committer commits what was acknowledged. A process of its own for
the reason that deploy.py is one; apart from it, because it needs nothing of Serve on a cluster that ends with the hub.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from infra.runtime import imports

_BEGAN = time.monotonic()
imports.hide(*imports.UNUSED)

import ray  # noqa: E402 - after the lines above

from actors import pool  # noqa: E402
from cluster.settings import Settings  # noqa: E402
from infra.runtime import ports  # noqa: E402
from infra.runtime.joining import JOINED, connect  # noqa: E402

# Of Serve; imported only where Serve has to be waited for.
_CONTROLLER, _NAMESPACE = "SERVE_CONTROLLER_ACTOR", "serve"
_CLOSE_DEADLINE_S = 5.0
_LOOK_EVERY_S = 0.02


def close_doors(settings: Settings) -> None:
    """Ask Serve to end, and return when nobody can connect any more; it need not have ended.

    A request that was in flight is answered or cut off. What was acknowledged is journaled, and drained next.
    """
    try:
        controller: Any = ray.get_actor(_CONTROLLER, namespace=_NAMESPACE)
    except ValueError:
        return
    ray.get(controller.graceful_shutdown.remote(wait=False))
    end = time.monotonic() + _CLOSE_DEADLINE_S
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
    while ports.is_open(host, settings.port) and time.monotonic() < end:
        time.sleep(_LOOK_EVERY_S)


def leave(settings: Settings) -> None:
    """On a cluster that goes on without the hub, everything of Serve has to be gone."""
    from ray import serve  # noqa: PLC0415

    serve.shutdown()
    pool.drain(settings)


def main() -> int:
    settings = Settings.from_environment()
    joined = os.environ.get(JOINED) == "1"
    _tell("imports")
    address = sys.stdin.readline().strip()
    if not address:
        return 1
    connect(settings, address, joined=joined)
    _tell("connected")
    if joined:
        leave(settings)
    else:
        close_doors(settings)
        _tell("doors closed")
        pool.drain(settings)
    _tell("drained")
    return 0


def _tell(part: str) -> None:
    """One line of the timeline in deploy.log."""
    print(f"{part} after {time.monotonic() - _BEGAN:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
