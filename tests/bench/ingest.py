"""Sustained events per second that the hub acknowledges as durable over HTTP, with the client on the same cores.

Bodies are encoded beforehand; each one sent gets fresh event ids by patching the digits of its ids in place, so that
the client costs little and nothing is a repeat. Afterwards the hub's ledger must agree with what was acknowledged.
With `--rate` batches are due at fixed times instead of one after the other, and latency counts from when they were due.
With `--probe` single events tell meanwhile how soon an acknowledged one is in an answer. With `--rivals` others take
the same bodies afterwards.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing as mp
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from cluster.sdk.client import ARROW_STREAM, NDJSON, PROTOBUF, HubClient
from cluster.sdk.retry import AGAIN
from tests.bench import freshness, ingest_rivals
from tests.bench.footprint import Watch
from tests.bench.ingest_bodies import Body, arrow_body, ndjson_body, otlp_body

SCENARIOS: dict[str, tuple[Callable[[int], Body], int, str, str]] = {
    "ndjson_1000": (ndjson_body, 1_000, "/api/v1/events", NDJSON),
    "ndjson_5000": (ndjson_body, 5_000, "/api/v1/events", NDJSON),
    "arrow_5000": (arrow_body, 5_000, "/api/v1/events", ARROW_STREAM),
    "arrow_20000": (arrow_body, 20_000, "/api/v1/events", ARROW_STREAM),
    "otlp_1000": (otlp_body, 1_000, "/v1/traces", PROTOBUF),
}
_SETTLE_S = 60.0
_AGAIN_S = 0.05
_PROBE_EVERY_S = 1.0


@dataclass(slots=True)
class Tally:
    """What one connection saw between the end of the warm-up and the end of the run."""

    acknowledged: int = 0
    warm_up: int = 0
    busy: int = 0
    failed: int = 0
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Run:
    """One scenario at one hub."""

    url: str
    key: str
    scenario: str
    connections: int
    warm_up_s: float
    seconds: float
    # Events a second over all connections; 0 sends as fast as answers come.
    rate: float = 0.0
    # Whether single events tell how soon they are in answers.
    probe: bool = False


def main(arguments: Sequence[str]) -> dict[str, Any]:
    """Run the scenarios, print their figures as JSON, and give them."""
    options = _parser().parse_args(list(arguments))
    url, key, lake, state = _hub(options)
    names = options.scenario or list(SCENARIOS)
    figures: dict[str, Any] = {"bench": "ingest", "machine": machine(), "versions": versions(state)}
    figures |= {"ack": state.get("settings", {}).get("HUB_ACK", "journal"), "connections": options.connections}
    runs: list[dict[str, Any]] = []
    with HubClient(url, key) as client:
        for name in names:
            for number in range(options.runs):
                run = Run(
                    url, key, name, options.connections, options.warm_up, options.seconds, options.rate, options.probe
                )
                runs.append({"run": number + 1, **run_scenario(run, client, lake, int(state.get("supervisor_pid", 0)))})
                print(_line(runs[-1]), file=sys.stderr, flush=True)
    figures["runs"] = runs
    figures["best"] = {name: max(run["events_per_s"] for run in runs if run["scenario"] == name) for name in names}
    figures["median"] = {
        name: float(np.median([run["events_per_s"] for run in runs if run["scenario"] == name])) for name in names
    }
    if options.rivals:
        hub = max((run["events_per_s"] for run in runs if run["scenario"].startswith("otlp")), default=0)
        figures["rivals"] = ingest_rivals.measured(options.phoenix, seconds=options.seconds, hub_spans_per_s=hub)
    print(json.dumps(figures, indent=2))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def run_scenario(run: Run, client: HubClient, lake: Path | None, supervisor_pid: int) -> dict[str, Any]:
    """Send one scenario and tell what came of it; a pid of 0 leaves out what the hub's processes used."""
    before, size_before = _settled(client), _bytes(lake)
    context = mp.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=_client, args=(run, answers))
    process.start()
    visible_s: list[float] = []
    ended = threading.Event()
    prober = threading.Thread(target=_probe, args=(run, visible_s, ended))
    with Watch(supervisor_pid) as watch:
        prober.start()
        # The whole run and its warm-up, with room for the start of the process.
        tallies, cpu_s, wall_s = answers.get(timeout=run.warm_up_s + run.seconds + 120)
        process.join()
        ended.set()
        prober.join()
        # What was acknowledged is committed by then, and its CPU counts.
        after = _settled(client)
    told = sum(tally.acknowledged + tally.warm_up for tally in tallies)
    seconds = np.array([one for tally in tallies for one in tally.seconds])
    acknowledged = sum(tally.acknowledged for tally in tallies)
    taken = after["accepted"] - before["accepted"] - len(visible_s)
    return {
        "scenario": run.scenario,
        "events_per_s": round(acknowledged / wall_s),
        "requests_per_s": round(len(seconds) / wall_s, 1),
        "latency_ms": {
            f"p{share}": round(float(np.percentile(seconds, share)) * 1000, 1) if len(seconds) else None
            for share in (50, 95, 99)
        },
        "busy_429": sum(tally.busy for tally in tallies),
        "failed": sum(tally.failed for tally in tallies),
        "client_cpu_cores": round(cpu_s / (wall_s + run.warm_up_s), 3),
        "body_bytes_per_event": round(_body(run.scenario).bytes_per_row, 1),
        "disk_bytes_per_event": round((_bytes(lake) - size_before) / told, 1) if lake and told else None,
        "acknowledged": told,
        "ledger_accepted": taken,
        "ledger_matches": taken == told,
        "ledger_difference": after["difference"],
        **({"rate_asked_for": run.rate} if run.rate else {}),
        **({"visible_s": _shares(visible_s)} if visible_s else {}),
        **(watch.figures(told) if supervisor_pid and told else {}),
    }


def _probe(run: Run, visible_s: list[float], ended: threading.Event) -> None:
    with HubClient(run.url, run.key) as client:
        while run.probe and not ended.wait(_PROBE_EVERY_S):
            visible_s.append(freshness.one(client))


def _shares(seconds: Sequence[float]) -> dict[str, float]:
    told = {f"p{share}": round(float(np.percentile(seconds, share)), 2) for share in (50, 95, 99)}
    return told | {"longest": round(max(seconds), 2), "events": len(seconds)}


def _client(run: Run, answers: Any) -> None:
    """The sending side, in a process of its own; its CPU time is the client's cost."""
    body = _body(run.scenario)
    tallies = [Tally() for _ in range(run.connections)]
    begin = time.monotonic() + run.warm_up_s
    end = begin + run.seconds
    cpu_before = time.process_time()
    threads = [threading.Thread(target=_connection, args=(run, body.copy(), tally, (begin, end))) for tally in tallies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A batch under way at the end was counted whole, so its time counts as well.
    answers.put((tallies, time.process_time() - cpu_before, time.monotonic() - begin))


def _connection(run: Run, body: Body, tally: Tally, span: tuple[float, float]) -> None:
    address = urlsplit(run.url)
    connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port, timeout=60)
    _, _, path, content_type = SCENARIOS[run.scenario]
    headers = {"Authorization": f"Bearer {run.key}", "Content-Type": content_type}
    begin, end = span
    due = begin - run.warm_up_s
    while (started := time.monotonic()) < end:
        if run.rate:
            due += body.rows * run.connections / run.rate
            time.sleep(max(0.0, due - started))
            started = due
        body.renew()
        while True:
            try:
                connection.request("POST", path, body.content, headers)
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException):
                # Not acknowledged and perhaps taken: sent again under the same ids, so the ledger still agrees.
                connection.close()
                tally.failed += 1
                continue
            if answer.status < 300:
                break
            if answer.status not in AGAIN:
                raise RuntimeError(f"the hub answered {answer.status}")
            tally.busy += 1
            # Sooner than Retry-After asks for: this measures a hub that is kept full.
            time.sleep(_AGAIN_S)
        if started < begin:
            tally.warm_up += body.rows
        else:
            tally.acknowledged += body.rows
            tally.seconds.append(time.monotonic() - started)
    connection.close()


def _body(scenario: str) -> Body:
    make, rows, _, _ = SCENARIOS[scenario]
    return make(rows)


def _settled(client: HubClient) -> dict[str, int]:
    """The ledger's total once nothing is in flight."""
    deadline = time.monotonic() + _SETTLE_S
    while True:
        total: dict[str, int] = client.get("/api/v1/ledger")["total"]
        if total["in_flight"] == 0 or time.monotonic() > deadline:
            return total
        time.sleep(0.3)


def _bytes(lake: Path | None) -> int:
    """Files of the tables of one event: the event itself and its roll-ups, logs included."""
    if lake is None:
        return 0
    folders = [lake / name for name in ("events", "rollup_1m")]
    return sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file())


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    try:
        text = Path("/proc/cpuinfo").read_text()
        memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    except OSError:
        text, memory = "", None
    model = re.search(r"model name\s*:\s*(.+)", text)
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": model[1] if model else platform.processor(),
        "memory_gib": round(int(memory[1]) / 2**20, 1) if memory else None,
        "system": f"{platform.system()} {platform.release()}",
    }


def versions(state: dict[str, Any]) -> dict[str, str]:
    """Of the hub and of what carries it."""
    from importlib.metadata import version

    names = ("ray", "pyarrow", "deltalake", "msgspec", "numpy")
    return {"hub": str(state.get("version", "")), "python": platform.python_version()} | {n: version(n) for n in names}


def _hub(options: argparse.Namespace) -> tuple[str, str, Path | None, dict[str, Any]]:
    folder = Path(os.environ.get("HUB_DATA", ".llmhub"))
    try:
        state: dict[str, Any] = json.loads((folder / "hub.json").read_text())
    except (OSError, ValueError):
        state = {}
    url = options.url or os.environ.get("HUB_URL") or str(state.get("url") or "http://127.0.0.1:8000")
    key = options.key or os.environ.get("HUB_API_KEY") or (folder / "admin.key").read_text().strip()
    lake = folder / "lake" / os.environ.get("HUB_REGION", "local")
    return url, key, lake if lake.is_dir() else None, state


def _line(run: dict[str, Any]) -> str:
    return (
        f"{run['scenario']:<12} {run['events_per_s']:>9,} events/s  p50 {run['latency_ms']['p50']} ms"
        f"  p99 {run['latency_ms']['p99']} ms  429 {run['busy_429']}  client {run['client_cpu_cores']} cores"
        f"  {run['disk_bytes_per_event']} B/event  ledger {'agrees' if run['ledger_matches'] else 'DIFFERS'}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llmhub bench ingest", description=__doc__)
    parser.add_argument("--url", default="")
    parser.add_argument("--key", default="")
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS))
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--warm-up", type=float, default=3.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=0.0, help="events a second that are due, 0 for as many as go")
    parser.add_argument("--probe", action="store_true", help="tell how soon an acknowledged event is in answers")
    parser.add_argument("--rivals", action="store_true", help="the same bodies to Phoenix and chDB, if installed")
    parser.add_argument("--phoenix", type=Path, help="the `phoenix` command of an environment with arize-phoenix")
    parser.add_argument("--json", type=Path)
    # Of other benchmarks: folder of real data.
    parser.add_argument("--data", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
