"""Others with the same bodies in the same run: Phoenix over OTLP, and chDB reading the same NDJSON from a file.

Neither is a dependency: Phoenix runs from an environment of its own (`--phoenix COMMAND`), chDB where it is installed;
where one is absent the figures say so. Phoenix answers before it stores, so what counts is what its database holds.
"""

from __future__ import annotations

import http.client
import os
import sqlite3
import subprocess
import tempfile
import threading
import time
from contextlib import closing, suppress
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from cluster.sdk.client import PROTOBUF
from infra.runtime import ports
from tests.bench.ingest_bodies import ndjson_body, otlp_body

_CONNECTIONS: Final = 4
_SPANS: Final = 1_000
_START_S: Final = 120.0
# How long Phoenix gets, after the last body, to store what it acknowledged.
_AFTERWARDS_S: Final = 60.0
_FILE_ROWS: Final = 5_000
_FILE_BODIES: Final = 200


def measured(phoenix: Path | None, *, seconds: float, hub_spans_per_s: float) -> dict[str, Any]:
    """Figures of each rival, or why there are none."""
    if phoenix is None:
        told: dict[str, Any] = {"absent": "no --phoenix COMMAND was given"}
    else:
        told = _phoenix(phoenix, seconds)
        stored = told["stored_and_readable_per_s"]
        told["hub_is_faster_by"] = round(hub_spans_per_s / stored, 1) if stored and hub_spans_per_s else None
    return {"phoenix": told, "chdb": _chdb()}


def _phoenix(command: Path, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        port, grpc_port = ports.free(), ports.free()
        environment = {
            **os.environ,
            "PHOENIX_WORKING_DIR": folder,
            "PHOENIX_HOST": "127.0.0.1",
            "PHOENIX_PORT": str(port),
            "PHOENIX_GRPC_PORT": str(grpc_port),
            "PHOENIX_TELEMETRY_ENABLED": "false",
        }
        log = Path(folder) / "phoenix.log"
        with log.open("wb") as out:
            server = subprocess.Popen([str(command), "serve"], env=environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            _wait_for(server, port, log)
            return _sent(port, Path(folder) / "phoenix.db", seconds)
        finally:
            server.terminate()
            server.wait(30)


def _wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and server.poll() is None:
        with (
            suppress(OSError, http.client.HTTPException),
            closing(http.client.HTTPConnection("127.0.0.1", port)) as door,
        ):
            door.request("GET", "/healthz")
            if door.getresponse().status == 200:
                return
        time.sleep(0.3)
    raise RuntimeError(f"Phoenix did not start: {log.read_text()[-500:]}")


def _sent(port: int, database: Path, seconds: float) -> dict[str, Any]:
    acknowledged = [0] * _CONNECTIONS
    refused = [0] * _CONNECTIONS
    end = time.monotonic() + seconds
    began = time.monotonic()

    def send(number: int) -> None:
        body = otlp_body(_SPANS)
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=120)) as connection:
            while time.monotonic() < end:
                body.renew()
                connection.request("POST", "/v1/traces", bytes(body.content), {"Content-Type": PROTOBUF})
                answer = connection.getresponse()
                answer.read()
                if answer.status < 300:
                    acknowledged[number] += body.rows
                else:
                    refused[number] += body.rows
                    time.sleep(0.2)

    threads = [threading.Thread(target=send, args=(number,)) for number in range(_CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sending_s = time.monotonic() - began
    at_once = _stored(database)
    told, stored, last_s = sum(acknowledged), at_once, sending_s
    while stored < told and time.monotonic() - began < sending_s + _AFTERWARDS_S:
        time.sleep(1.0)
        now = _stored(database)
        if now > stored:
            stored, last_s = now, time.monotonic() - began
    return {
        "spans_of_one_body": _SPANS,
        "connections": _CONNECTIONS,
        "acknowledged": told,
        "acknowledged_per_s": round(told / sending_s),
        "refused": sum(refused),
        "stored_when_sending_ended": at_once,
        "stored_afterwards": stored,
        "waited_for_s": round(last_s - sending_s, 1),
        "stored_and_readable_per_s": round(stored / last_s, 1),
        "acknowledged_and_not_stored": told - stored,
    }


def _stored(database: Path) -> int:
    """Spans that another reader of Phoenix's database sees."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)) as reader:
        ((count,),) = reader.execute("SELECT count(*) FROM spans").fetchall()
    return int(count)


def _chdb() -> dict[str, Any]:
    if find_spec("chdb") is None:
        return {"absent": "chDB is not installed here"}
    session = import_module("chdb.session")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.ndjson"
        body = ndjson_body(_FILE_ROWS)
        with path.open("wb") as file:
            for _ in range(_FILE_BODIES):
                body.renew()
                file.write(body.content)
        with closing(session.Session(str(Path(folder) / "clickhouse"))) as clickhouse:
            clickhouse.query("CREATE DATABASE bench")
            source = f"file('{path}', 'JSONEachRow')"
            clickhouse.query(
                f"CREATE TABLE bench.events ENGINE = MergeTree ORDER BY tuple() AS SELECT * FROM {source} LIMIT 0"
            )
            began = time.monotonic()
            clickhouse.query(f"INSERT INTO bench.events SELECT * FROM {source} SETTINGS max_threads = 2")
            took_s = time.monotonic() - began
            count = int(str(clickhouse.query("SELECT count() FROM bench.events")).strip())
    return {
        "version": version("chdb"),
        "what": "inserts NDJSON from a file: no HTTP, no fsync before an answer, no repeats, no roll-ups",
        "events": count,
        "events_per_s": round(count / took_s),
    }
