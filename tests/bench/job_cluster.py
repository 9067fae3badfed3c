"""One job in a cluster of simulated nodes, as a process of its own: Ray's variables are read when it is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray.cluster_utils import Cluster

from actors.hosts import committer_name
from actors.pool import CommitterActor
from cluster.settings import Settings


def main(arguments: list[str]) -> int:
    nodes, query_id = int(arguments[0]), arguments[1]
    settings = Settings.from_environment()
    cluster = Cluster()
    for _ in range(nodes):
        cluster.add_node(num_cpus=1, include_dashboard=False)
    try:
        ray.init(address=cluster.address, namespace=settings.namespace, log_to_driver=False)
        name = committer_name(settings.region)
        committer: Any = CommitterActor.options(name=name, namespace=settings.namespace).remote(settings)
        ray.get(committer.status.remote())
        command = [sys.executable, "-m", "pipelines.answer_query", "--set", f"query={query_id}"]
        environment = {**os.environ, "RAY_ADDRESS": cluster.address}
        began_s = time.monotonic()
        done = subprocess.run(
            command, env=environment, cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, check=True
        )
        took_s = time.monotonic() - began_s
        report = json.loads(done.stdout)
    finally:
        ray.shutdown()
        cluster.shutdown()
    kept = {name: report[name] for name in ("blocks", "files", "rows")}
    print(json.dumps({"nodes": nodes, "nodes_used": report["nodes"], "seconds": round(took_s, 1), **kept}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
