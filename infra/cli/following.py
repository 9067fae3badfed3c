"""Follows a question that runs as a job until it ends: a bar on a terminal, plain lines otherwise."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

import httpx2
import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from infra.cli.client import HubHttp
from infra.cli.failures import CommandFailed

_LOOK_EVERY_S: Final = 0.5
_ACCEPTED: Final = 202
_OPEN: Final = ("queued", "running")


def answer_of(hub: HubHttp, question: dict[str, Any], *, as_job: bool) -> str:
    """The answer to a question as its JSON text; one that runs as a job is followed.

    Raises: as `_answered`, and HubRefused.
    """
    headers = {"prefer": "respond-async"} if as_job else {}
    response = hub.send("POST", "/api/v1/query", json=question, headers=headers)
    return _answered(hub, response) if response.status_code == _ACCEPTED else response.text


def _answered(hub: HubHttp, submitted: httpx2.Response) -> str:
    """The answer of a submitted job as its JSON text, digit for digit. Ctrl-C cancels the job.

    Raises:
        CommandFailed: the job failed, or somebody cancelled it.
    """
    job: dict[str, Any] = submitted.json()
    path = submitted.headers["location"]
    typer.echo(f"query {job['query_id']} runs as a job: {job['reason']}", err=True)
    try:
        text = _ended(hub, path, job)
    except KeyboardInterrupt:
        hub.send("DELETE", path)
        raise CommandFailed(f"query {job['query_id']} was cancelled") from None
    told = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    if "answer" in told:
        return bytes(told["answer"]).decode()
    state = msgspec.json.decode(told["state"], type=str)
    error = msgspec.json.decode(told.get("error", b"{}"), type=dict[str, str])
    raise CommandFailed(
        f"query {job['query_id']} {state}" + (f": {error['detail']} ({error['code']})" if error else ""),
        hint=error.get("hint") or None,
    )


def _ended(hub: HubHttp, path: str, job: dict[str, Any]) -> str:
    console = Console(stderr=True)
    bar: AbstractContextManager[Progress] | nullcontext[None] = nullcontext()
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[done]}"),
            TimeElapsedColumn(),
        )
        bar = Progress(*columns, console=console, transient=True)
    with bar as progress:
        task = None if progress is None else progress.add_task("queued", total=job["progress"]["rows"][1], done="")
        last = ""
        while True:
            response = hub.send("GET", path)
            job = response.json()
            line = _line(job)
            if progress is not None and task is not None:
                progress.update(task, description=job["state"], completed=job["progress"]["rows"][0], done=line)
            elif line != last:
                typer.echo(f"{job['state']}: {line}", err=True)
            last = line
            if job["state"] not in _OPEN:
                return response.text
            time.sleep(_LOOK_EVERY_S)


def _line(job: dict[str, Any]) -> str:
    told = job["progress"]
    nodes = f" on {told['nodes']} nodes" if told["nodes"] > 1 else ""
    return (
        f"{told['rows'][0]:,} of {told['rows'][1]:,} events, {told['files'][0]:,} of {told['files'][1]:,} files{nodes}"
    )
