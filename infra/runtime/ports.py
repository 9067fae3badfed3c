"""Free ports for everything that listens inside one hub, so that several hubs share a machine."""

from __future__ import annotations

import socket
from dataclasses import dataclass

# Replicas take their ports from a range of this size; Serve tries the next one when a port is taken.
_RANGE = 400
_FIRST, _LAST = 20_000, 32_000


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports of one run."""

    gcs: int
    jobs: int
    edge_metrics: int
    edge_statistics: int
    fallback_http: int
    fallback_grpc: int
    replica_http: tuple[int, int]
    replica_grpc: tuple[int, int]


def choose() -> Ports:
    """Ports that are free now. Another process may still take one before its user binds it; that start then fails."""
    base = _free_range(2 * _RANGE)
    middle = base + _RANGE
    return Ports(
        gcs=free(),
        jobs=free(8265),
        edge_metrics=free(9101),
        edge_statistics=free(8404),
        fallback_http=free(),
        fallback_grpc=free(),
        replica_http=(base, middle - 1),
        replica_grpc=(middle, middle + _RANGE - 1),
    )


def free(wanted: int = 0) -> int:
    """`wanted` when it can be bound on loopback, else any free port below the range clients take theirs from."""
    if wanted and is_free(wanted):
        return wanted
    taken: list[socket.socket] = []
    try:
        # Hold what does not fit, so that the kernel offers another.
        while True:
            probe = socket.socket()
            taken.append(probe)
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
            if port not in _given:
                _given.add(port)
                return port
    finally:
        for probe in taken:
            probe.close()


# Ports handed out in this process: the kernel may offer a just closed one again.
_given: set[int] = set()


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


def _free_range(size: int) -> int:
    """Start of a block whose first ports of each half are free."""
    for base in range(_FIRST, _LAST - size, size):
        probes = (base, base + 1, base + 2, base + _RANGE, base + _RANGE + 1, base + _RANGE + 2)
        if all(is_free(port) for port in probes):
            return base
    return _FIRST
