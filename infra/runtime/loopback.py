"""A hook of every Ray worker of the hub: gRPC servers that Serve opens on all interfaces bind to this node's address.

Serve's replicas and its fallback proxy listen on `[::]`; one of those services unpickles what it is sent, and only the
cluster's token stands before it. On one machine the node's address is loopback, so nothing is reachable from outside.
"""

from __future__ import annotations

from typing import Any

# Import path for `worker_process_setup_hook`.
HOOK = "infra.runtime.loopback.bind_to_node"
_EVERYWHERE = "[::]:"


def bind_to_node() -> None:
    """Replace the two functions through which Ray Serve binds gRPC servers, before Serve is imported."""
    import ray._common.tls_utils as tls  # noqa: PLC0415
    import ray.util  # noqa: PLC0415

    node = ray.util.get_node_ip_address()
    by_tls = tls.add_port_to_grpc_server

    def add_port_to_grpc_server(server: Any, address: str) -> int:
        return int(by_tls(server, local(address, node)))

    # Before the first import of Serve, whose replica module takes the function by name.
    tls.add_port_to_grpc_server = add_port_to_grpc_server

    from ray.serve._private import default_impl  # noqa: PLC0415

    by_serve = default_impl.add_grpc_address

    def add_grpc_address(server: Any, address: str) -> None:
        by_serve(server, local(address, node))

    default_impl.add_grpc_address = add_grpc_address  # type: ignore[assignment]


def local(address: str, node: str) -> str:
    """`[::]:PORT` on the node's own address; any other address as it is."""
    if not address.startswith(_EVERYWHERE):
        return address
    host = f"[{node}]" if ":" in node else node
    return f"{host}:{address.removeprefix(_EVERYWHERE)}"
