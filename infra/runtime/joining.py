"""How a driver of the hub connects to its cluster, for the two that do: deploy.py and drain.py."""

from __future__ import annotations

import os
from typing import Any

import ray

from cluster.settings import Settings
from infra.runtime.worker_hook import HOOK

# Set by the supervisor when the cluster was not started by this hub.
JOINED = "HUBRUN_JOINED"


def connect(settings: Settings, address: str, *, joined: bool) -> None:
    """Connect as a driver; every worker of this job begins with the hub's hook."""
    environment: dict[str, Any] = {"worker_process_setup_hook": HOOK}
    if joined:
        # A cluster that runs already was not started with the hub's variables.
        wanted = ("HUB_", "RAY_SERVE_")
        environment["env_vars"] = {key: value for key, value in os.environ.items() if key.startswith(wanted)}
    ray.init(address=address, namespace=settings.namespace, runtime_env=environment, log_to_driver=False)
