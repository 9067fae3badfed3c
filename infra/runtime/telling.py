"""The supervisor's log: JSON lines in the data folder, so that standard output stays for people."""

from __future__ import annotations

import logging

import structlog

from infra.runtime.layout import Layout


def set_up(layout: Layout, level: str) -> None:
    """Send structlog to `logs/supervisor.jsonl`."""
    layout.make()
    file = open(layout.logs / "supervisor.jsonl", "a", buffering=1)  # noqa: SIM115 - open as long as the process lives
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file),
    )
