"""An edit of gRPC in every Ray worker of the hub: servers that ask for all interfaces bind to the node's address.

Serve's replicas and its fallback proxy listen on `[::]`; one of those services unpickles what it is sent, and only the
cluster's token stands before it. On one machine the node's address is loopback, so nothing is reachable from outside.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import ray.util

_EVERYWHERE = "[::]:"


def bind_to_node(servers: ModuleType) -> None:
    """Make every asyncio gRPC server of this process bind to the node's address where it asks for all interfaces.

    At the server class of `grpc.aio._server`, because both places in Serve end there, and without importing Serve: a
    shard needs none of it.
    """
    node = ray.util.get_node_ip_address()
    server = servers.Server
    plain, secure = server.add_insecure_port, server.add_secure_port

    def add_insecure_port(self: Any, address: str) -> int:
        return int(plain(self, local(address, node)))

    def add_secure_port(self: Any, address: str, credentials: Any) -> int:
        return int(secure(self, local(address, node), credentials))

    server.add_insecure_port = add_insecure_port
    server.add_secure_port = add_secure_port


def local(address: str, node: str) -> str:
    """`[::]:PORT` on the node's own address; any other address as it is."""
    if not address.startswith(_EVERYWHERE):
        return address
    host = f"[{node}]" if ":" in node else node
    return f"{host}:{address.removeprefix(_EVERYWHERE)}"
