"""How a job connects to the cluster it runs on."""

from __future__ import annotations

import logging

import ray


def join(namespace: str | None = None, *, workers_tell: bool = False) -> None:
    """Connect to the hub's cluster, or start one for this job alone.

    Args:
        namespace: of the actors that the job asks for by name.
        workers_tell: print what workers log.
    """
    # Ray's progress, a dozen lines each few seconds, would bury the report.
    ray.init(ignore_reinit_error=True, namespace=namespace, log_to_driver=workers_tell, logging_level=logging.WARNING)
    logging.getLogger("ray.data").setLevel(logging.WARNING)


def join_with_data() -> None:
    """As `join`, for jobs of Ray Data and Ray Train, whose workers tell how a fit goes."""
    join(workers_tell=True)
    ray.data.DataContext.get_current().enable_progress_bars = False
    # It warns that it obeys.
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
