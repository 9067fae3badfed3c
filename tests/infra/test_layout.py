"""The data folder: secrets, the state file, ports and processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from infra.runtime import ports, processes
from infra.runtime.layout import HubState, Layout, StartRefused
from infra.runtime.loopback import local
from infra.runtime.ray_head import refuse_without_token


def test_the_token_is_private_and_stays(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    text = layout.ensure_token().read_text()
    assert len(text) == 64
    assert layout.token.stat().st_mode & 0o777 == 0o600
    assert layout.ensure_token().read_text() == text


def test_a_token_others_can_read_is_refused(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.ensure_token().chmod(0o644)
    with pytest.raises(StartRefused, match="mode 644"):
        layout.ensure_token()


@pytest.mark.parametrize("variables", [{}, {"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_MODE": "token"}])
def test_without_a_token_nothing_starts(variables: dict[str, str]) -> None:
    with pytest.raises(StartRefused):
        refuse_without_token(variables)


def test_socket_paths_stay_under_the_kernels_limit(tmp_path: Path) -> None:
    long = Layout(tmp_path / ("x" * 150)).sockets
    node = "f" * 56
    assert len(f"{long}/edge/{node}/a.sock.1234567.tmp") < 108
    assert len(f"{long}/ray/session_2026-01-01_00-00-00_000000_1234567/sockets/plasma_store") < 108


def test_the_state_survives_a_round_trip(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    assert HubState.load(layout) is None
    state = HubState("ready", 1, 2, "http://a", "http://b", "http://c", ray_pid=7)
    state.save(layout)
    assert HubState.load(layout) == state
    layout.state.write_text('{"phase": "re')
    assert HubState.load(layout) is None


def test_a_hub_keeps_its_ports_and_passes_over_a_taken_block() -> None:
    chosen = ports.choose("one hub")
    assert ports.choose("one hub") == chosen
    assert ports.choose("another hub") != chosen
    with socket.create_server(("127.0.0.1", chosen.replica_grpc[1])):
        assert not ports.is_free(chosen.replica_grpc[1])
        assert ports.choose("one hub").gcs != chosen.gcs


def test_servers_on_every_interface_move_to_the_nodes_address() -> None:
    assert local("[::]:0", "127.0.0.1") == "127.0.0.1:0"
    assert local("[::]:9500", "fd00::1") == "[fd00::1]:9500"
    assert local("127.0.0.1:80", "10.0.0.1") == "127.0.0.1:80"


def test_a_session_is_ended_whole() -> None:
    """A child that ignores SIGTERM and one in a session of its own end too."""
    code = (
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        "print('up', flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as leader:
        assert leader.stdout is not None
        leader.stdout.readline()
        assert len(processes.members([leader.pid])) == 2
        killed = processes.end_sessions([leader.pid], grace_s=0.2)
        assert killed
        assert leader.wait(5) == -signal.SIGKILL
        assert not processes.members([leader.pid])


def test_a_pid_given_to_another_process_is_not_the_same() -> None:
    own = processes.look_up(os.getpid())
    assert own is not None
    assert processes.is_alive(own.pid, own.start)
    assert not processes.is_alive(own.pid, own.start + 1)
