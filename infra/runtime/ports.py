"""Ports for everything that listens inside one hub, so that several hubs share a machine."""

from __future__ import annotations

import hashlib
import secrets
import socket
from dataclasses import dataclass

from infra.runtime.layout import StartRefused

# Below the range from which the kernel gives ports to clients, so that no outgoing connection takes one of ours.
_FREE_FIRST, _FIRST, _LAST = 10_000, 20_000, 32_000
_BLOCK = 100
# Replicas of each protocol; a port that was freed rests for a minute before Serve uses it again.
_REPLICAS = 40


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports of one hub: one block."""

    gcs: int
    jobs: int
    edge_metrics: int
    edge_statistics: int
    fallback_http: int
    fallback_grpc: int
    # Ray's agents: a raylet that knows their ports need not wait for them.
    agent_grpc: int
    agent_http: int
    agent_metrics: int
    runtime_environments: int
    replica_http: tuple[int, int]
    replica_grpc: tuple[int, int]

    @classmethod
    def block(cls, base: int) -> Ports:
        http, grpc = base + 10, base + 10 + _REPLICAS
        return cls(
            gcs=base,
            jobs=base + 1,
            edge_metrics=base + 2,
            edge_statistics=base + 3,
            fallback_http=base + 4,
            fallback_grpc=base + 5,
            agent_grpc=base + 6,
            agent_http=base + 7,
            agent_metrics=base + 8,
            runtime_environments=base + 9,
            replica_http=(http, grpc - 1),
            replica_grpc=(grpc, grpc + _REPLICAS - 1),
        )


def choose(name: str) -> Ports:
    """A free block, at first the one that `name` leads to.

    So one hub keeps its ports over restarts, and two that start at once do not both find the same block free.

    Raises:
        StartRefused: no block is free.
    """
    blocks = (_LAST - _FIRST) // _BLOCK
    start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    for step in range(blocks):
        base = _FIRST + (start + step) % blocks * _BLOCK
        if all(is_free(port) for port in range(base, base + 10 + 2 * _REPLICAS)):
            return Ports.block(base)
    raise StartRefused(f"no {_BLOCK} free ports in a row between {_FIRST} and {_LAST}")


def free() -> int:
    """A port that is free now, below those the kernel gives to clients: none takes it while a hub starts again.

    Raises:
        StartRefused: a thousand tries found none.
    """
    for _ in range(1_000):
        port = _FREE_FIRST + secrets.randbelow(_FIRST - _FREE_FIRST)
        if is_free(port):
            return port
    raise StartRefused(f"no free port between {_FREE_FIRST} and {_FIRST}")


def is_open(host: str, port: int) -> bool:
    """Whether somebody takes connections there."""
    try:
        with socket.create_connection((host, port), timeout=1.0):
            return True
    except OSError:
        return False


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether `host:port` can be bound now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # A port in TIME_WAIT after the last run is usable.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
