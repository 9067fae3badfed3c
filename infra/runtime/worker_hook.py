"""What every Ray worker of the hub does first: listen on loopback, import less, let the doors come before their spare.

Runs in actors and replicas of the hub, and in Serve's controller and proxies; not in jobs, which import what they want.
"""

from __future__ import annotations

import time
from types import ModuleType
from typing import Any

from infra.runtime import imports, loopback

# Import path for `worker_process_setup_hook`.
HOOK = "infra.runtime.worker_hook.prepare"
# On two cores the doors stand in 10 to 15 s; a spare that starts with them makes them late.
SPARE_AFTER_S = 20.0


def prepare() -> None:
    """The hook itself."""
    imports.hide(*imports.UNUSED)
    imports.after("grpc.aio._server", loopback.bind_to_node)
    imports.after("ray.serve._private.proxy_state", start_spare_later)


def start_spare_later(proxy_state: ModuleType) -> None:
    """Serve's spare proxy takes requests while no replica does: needed when one died, not while the first one starts.

    Until it runs, HAProxy answers 503 for itself, as it does when the spare is away.
    """
    proxies = proxy_state.ProxyStateManager
    start = proxies._start_fallback_proxy_if_needed
    began = time.monotonic()

    def start_later(self: Any, *node: Any, **named: Any) -> None:
        if time.monotonic() - began >= SPARE_AFTER_S:
            start(self, *node, **named)

    proxies._start_fallback_proxy_if_needed = start_later
