"""The whole life of a model over a running hub: `python -m tests.journeys.life_cycle [--smd DIR] [--refusals]`.

A hub is started and told a day of the demo. Then, by `llmhub job` or Ray's own `ray job submit`: a training whose
worker is killed in the middle and goes on at its checkpoint, a promotion, a second training, a graph network and its
twin, scores under load while champions are exchanged, a rollback to the bit, a worse challenger that is refused, and a
model altered by one byte that is. Prints what was measured; exits 1 when one of it does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from infra.runtime import processes
from tests.bench.ingest import machine
from tests.bench.score_load import load_of
from tests.journeys.local_hub import LocalHub, local_hub

ROOT = Path(__file__).parents[2]


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 all of it holds."""
    parser = argparse.ArgumentParser(prog="python -m tests.journeys.life_cycle", description=__doc__)
    parser.add_argument("--smd", type=Path, help="folder of SMD's Parquet files: also train on two machines")
    parser.add_argument("--refusals", action="store_true", help="one training, one promotion and the refusals alone")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    figures: dict[str, Any] = {"machine": machine()}
    try:
        with tempfile.TemporaryDirectory() as folder, local_hub(Path(folder)) as hub:
            if options.refusals:
                told_a_day(hub)
                files = of_machines(options.smd)
                job(hub, "train_autoencoder", *files, *([] if files else ["steps=400"]))
                job(hub, "promote", "kind=autoencoder", *files)
                figures |= refusals(hub, *files)
            else:
                lived(hub, options.smd, figures)
    finally:
        # Of a life that ended early, what was measured until then.
        print(json.dumps(figures, indent=1))
        if options.json:
            options.json.write_text(json.dumps(figures, indent=1))
    return 0 if all(value is not False for value in figures.values()) else 1


def lived(hub: LocalHub, smd: Path | None, figures: dict[str, Any]) -> None:
    """All of it, in order; figures as they come."""
    environment = told_a_day(hub)
    first, resumed = trained_with_a_kill(hub, environment)
    figures["killed_worker_resumed_at_step"] = resumed
    figures["resumed"] = resumed > 0
    figures["autoencoder_with_kill"] = cost(first)
    figures["promoted"] = job(hub, "promote", "kind=autoencoder")["promoted"]
    second = submitted(hub, environment, "train_autoencoder", "seed=2", "steps=800")
    figures["autoencoder_by_ray_job_submit"] = cost(second)
    gnn = submitted(hub, environment, "train_gnn", "steps=200")
    figures["gnn_metric_by_ray_job_submit"] = cost(gnn) | {
        name: gnn["figures"][f"{name}_average_precision"] for name in ("no_edges", "pca")
    }
    if smd is not None:
        files = of_machines(smd)
        figures["autoencoder_on_smd"] = cost(submitted(hub, environment, "train_autoencoder", *files))
        figures["smd_promoted"] = job(hub, "promote", "kind=autoencoder", *files)["promoted"]
        # A machine by itself: its own features are the graph.
        gnn = submitted(hub, environment, "train_gnn", *files, "layout=entities", "steps=200")
        figures["gnn_on_smd"] = cost(gnn) | {"no_edges": gnn["figures"]["no_edges_average_precision"]}
        figures["smd_gnn_promoted"] = job(hub, "promote", "kind=gnn_metric", *files)["promoted"]
    figures |= exchanged_under_load(hub, second["version"])
    figures |= refusals(hub, *of_machines(smd))


def of_machines(smd: Path | None) -> tuple[str, ...]:
    """Settings of jobs over two machines of SMD; none where there are none."""
    return () if smd is None else ("tenant=smd", f"files={smd.resolve()}", "entities=machine-1-2,machine-1-5")


def told_a_day(hub: LocalHub) -> dict[str, str]:
    """Tell a day of the demo and wait until all of it is in tables, which jobs read; the environment of commands."""
    environment = {**hub.environment, "HUB_URL": hub.url, "HUB_API_KEY": hub.key}
    demo = [sys.executable, "-m", "infra.demo", "--data", str(hub.layout.data), "--once"]
    subprocess.run(demo, env=environment, check=True, capture_output=True, cwd=ROOT)
    with_patience = hub.client()

    def settled() -> bool:
        total = with_patience.get("/api/v1/ledger")["total"]
        return bool(total["in_flight"] == total["difference"] == 0 and total["accepted"])

    assert processes.wait_until(settled, deadline_s=180.0, every_s=0.5)
    with_patience.close()
    return environment


def trained_with_a_kill(hub: LocalHub, environment: dict[str, str]) -> tuple[dict[str, Any], int]:
    """Train with two workers, and kill -9 one of them once the checkpoint of step 300 is known to stand."""
    words = [sys.executable, "-m", "infra.cli", "job", "train_autoencoder", "--data", str(hub.layout.data)]
    words += ["--set", "workers=2", "--set", "steps=800", "--set", "checkpoint_every=100", "--set", "name=killed"]
    with tempfile.TemporaryFile("w+") as out:
        running = subprocess.Popen(words, env=environment, stdout=out, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
        # Ray Train's own account of what it would go on from.
        account = hub.layout.data / "training" / "killed" / "checkpoint_manager_snapshot.json"

        def reached() -> bool:
            try:
                latest = json.loads(account.read_bytes())["latest_checkpoint_result"]["metrics"]
            except (OSError, ValueError, TypeError):
                return running.poll() is not None
            return int(latest.get("step", 0)) >= 300

        processes.wait_until(reached, deadline_s=1_200.0)
        killed = hub.kill("trainer")
        code = running.wait()
        out.seek(0)
        told = out.read()
    assert code == 0 and killed == 1, f"killed {killed}, exit code {code}, {told[-3_000:]}"
    report = _report(told)
    return report, int(report["figures"]["resumed_at_step"])


def job(hub: LocalHub, name: str, *pairs: str, may_fail: bool = False) -> dict[str, Any]:
    """The report of a job that `llmhub job` ran."""
    print(f"{time.strftime('%H:%M:%S')} job {name} {' '.join(pairs)}", file=sys.stderr, flush=True)
    words = [word for pair in pairs for word in ("--set", pair)]
    done = hub.command("job", name, "--data", str(hub.layout.data), *words)
    assert may_fail or done.returncode == 0, (done.stdout + done.stderr)[-3_000:]
    return _report(done.stdout)


def submitted(hub: LocalHub, environment: dict[str, str], name: str, *pairs: str) -> dict[str, Any]:
    """The same by Ray's own command."""
    words = [word for pair in pairs for word in ("--set", pair)]
    command = [str(Path(sys.executable).with_name("ray")), "job", "submit", "--address", hub.state.jobs_url]
    command += ["--working-dir", ".", "--", "python", "-m", f"pipelines.{name}", *words]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(hub.layout.token)}
    done = subprocess.run(command, env=environment | token, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3_000:]
    return _report(done.stdout)


def _report(text: str) -> dict[str, Any]:
    """The JSON object at the end of a job's output."""
    start = text.index("\n{\n") + 1
    report: dict[str, Any] = json.JSONDecoder().raw_decode(text[start:])[0]
    return report


def cost(report: dict[str, Any]) -> dict[str, float]:
    """Time, memory and quality of a training."""
    names = (
        *("job_s", "fit_s", "driver_peak_mb", "worker_peak_mb", "held_average_precision", "held_random_precision"),
        *("held_recall", "held_alarms_per_day"),
    )
    return {name: round(report["figures"][name], 3) for name in names}


def exchanged_under_load(hub: LocalHub, challenger: int) -> dict[str, Any]:
    """50 clients score while the challenger takes over and goes back; nothing may be dropped, and bits come back."""
    body = {"detector": "autoencoder", "windows": np.random.default_rng(1).normal(5, 1, (4, 40, 14)).tolist()}
    told = next(one for one in _detectors(hub) if one["detector"] == "autoencoder")
    before = told["champion"]["version"]
    width = _width(hub, body)
    body["windows"] = np.random.default_rng(1).normal(5, 1, (4, 40, width)).tolist()
    first = _scores(hub, body, before)
    paced = asyncio.run(load_of(hub.url, hub.key, body, every_s=0.5))

    def exchange() -> None:
        job(hub, "promote", "kind=autoencoder", f"version={challenger}", may_fail=True)

    load = asyncio.run(load_of(hub.url, hub.key, body, exchange=exchange))
    moved = {int(version) for version in load.pop("versions")}
    load["exchanged_under_load"] = len(moved) > 1
    if challenger in moved:
        job(hub, "promote", "kind=autoencoder", "rollback=yes")
    again = _scores(hub, body, before)
    return {"paced": paced, **load, "rollback_is_bit_identical": again == first}


def _width(hub: LocalHub, body: dict[str, Any]) -> int:
    answer = httpx2.post(f"{hub.url}/api/v1/score", json=body, headers=_headers(hub), timeout=60)
    found = re.search(r"reads (\d+) features", answer.json().get("detail", ""))
    return int(found[1]) if found else 14


def _headers(hub: LocalHub) -> dict[str, str]:
    return {"authorization": f"Bearer {hub.key}"}


def _detectors(hub: LocalHub) -> list[dict[str, Any]]:
    answer = httpx2.get(f"{hub.url}/api/v1/detectors", headers=_headers(hub), timeout=60)
    found: list[dict[str, Any]] = answer.json()["detectors"]
    return found


def _scores(hub: LocalHub, body: dict[str, Any], version: int) -> Any:
    """The first answer of a version; the exchange runs beside the requests."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        answer = httpx2.post(f"{hub.url}/api/v1/score", json=body, headers=_headers(hub), timeout=60).json()
        if answer["version"] == version:
            return answer["scores"]
    raise AssertionError(f"version {version} never answered")


def refusals(hub: LocalHub, *rows: str) -> dict[str, Any]:
    """A challenger that learned next to nothing, and a champion altered by one byte.

    Args:
        rows: settings that say what the challenger reads, as its champion did. On a day of the demo a network of two
            steps may be as good as one of hundreds; on machines of SMD it is not.
    """
    worse = job(hub, "train_detector", "kind=pca")
    figures: dict[str, Any] = {"pca": cost(worse)}
    job(hub, "promote", "kind=pca")
    bad = job(hub, "train_autoencoder", *rows, "steps=2", "seed=9")
    verdict = job(hub, "promote", "kind=autoencoder", *rows, f"version={bad['version']}", may_fail=True)
    figures["worse_is_refused"] = not verdict["promoted"]
    figures["refused_because"] = verdict["reason"]
    figures["judged"] = {one: verdict[one]["average_precision"] for one in ("challenger", "champion")}
    [run] = [one["champion"]["run_id"] for one in _detectors(hub) if one["detector"] == "pca"]
    for path in [
        *hub.layout.data.glob(f"mlflow/**/{run}/artifacts/model/arrays.npz"),
        *hub.layout.data.glob("models/default.pca/*/arrays.npz"),
    ]:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    answer = httpx2.post(
        f"{hub.url}/api/v1/score",
        json={"detector": "pca", "windows": [[[1.0] * 14] * 40]},
        headers=_headers(hub),
        timeout=60,
    )
    figures["altered_is_refused"] = answer.status_code == 409 and answer.json()["code"] == "model_refused"
    return figures


if __name__ == "__main__":
    sys.exit(main())
