"""The self-check of listening sockets."""

from __future__ import annotations

import os
import socket

import pytest

from cluster.settings import Settings
from infra.runtime.sockets import Listener, SocketExposed, check, exposed, listeners_of, parse_listening, public_doors

TABLE = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 00000000:20D4 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0
   2: 0100007F:1F40 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0
   3: 00000000000000000000000001000000:1388 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 444 1 0
   4: 00000000000000000000000000000000:9C40 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 555 1 0
"""


def test_the_kernels_table_is_read() -> None:
    assert parse_listening(TABLE) == {
        111: ("127.0.0.1", 8000),
        222: ("0.0.0.0", 8404),
        444: ("::1", 5000),
        555: ("::", 40000),
    }


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("::ffff:0.0.0.0", False),
        ("192.0.2.1", False),
    ],
)
def test_what_counts_as_this_machine_only(address: str, local: bool) -> None:
    assert Listener(address, 1, 1, "x").is_local is local


def test_only_an_opened_host_allows_the_two_doors() -> None:
    assert public_doors(Settings()) == frozenset()
    open_doors = public_doors(Settings(host="0.0.0.0"))
    assert open_doors == {8000, 4317}
    found = [Listener("0.0.0.0", 8000, 1, "haproxy"), Listener("0.0.0.0", 8404, 1, "haproxy")]
    assert [one.port for one in exposed(found, open_doors)] == [8404]


def test_a_loopback_socket_passes_and_an_open_one_stops_the_hub() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port in [one.port for one in listeners_of([os.getpid()])]
    with socket.create_server(("0.0.0.0", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(SocketExposed, match=f"0.0.0.0:{port}"):
            check([os.getpid()], Settings())
