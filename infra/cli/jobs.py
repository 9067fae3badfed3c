"""`llmhub job NAME`: submits a pipeline through the Ray Jobs API and follows it."""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
from typing import Annotated, Any

import typer

from infra.cli.failures import CommandFailed
from infra.cli.running import DataOption
from infra.runtime.edge import ROOT
from infra.runtime.layout import HubState, Layout


def job(
    name: Annotated[str, typer.Argument(help="A module of `pipelines`, as rebuild_rollups.")],
    settings: Annotated[list[str] | None, typer.Option("--set", help="K=V for the pipeline; may be repeated.")] = None,
    data: DataOption = None,
) -> None:
    """Run a pipeline on the hub's cluster and follow its output. The exit code is the pipeline's success."""
    if not name.isidentifier() or not (ROOT / "pipelines" / f"{name}.py").is_file():
        raise typer.BadParameter(f"no pipeline {name!r} in pipelines/", param_hint="NAME")
    for pair in settings or []:
        if "=" not in pair:
            raise typer.BadParameter(f"{pair!r} is not K=V", param_hint="--set")
    client = _connect(data)
    words = ["python", "-m", f"pipelines.{name}"]
    words += [word for pair in settings or [] for word in ("--set", pair)]
    try:
        submission = client.submit_job(entrypoint=shlex.join(words), runtime_env={"working_dir": str(ROOT)})
    except RuntimeError as error:
        raise CommandFailed(f"the job API refused {name}: {error}") from error
    print(f"job {submission}", flush=True)
    asyncio.run(_follow(client, submission))
    outcome = client.get_job_info(submission)
    if outcome.status != "SUCCEEDED":
        # The lines that Ray repeats after this stand above.
        why = (outcome.message or "").partition(", last available logs")[0].strip()
        raise CommandFailed(f"job {submission} {outcome.status}: {why[-400:]}")


def _connect(data: object) -> Any:
    layout = Layout.over(data)  # type: ignore[arg-type]
    state = HubState.load(layout)
    if state is None or not state.jobs_url:
        raise CommandFailed(f"no hub runs over {layout.data}", hint="`llmhub up` starts one.")
    # Ray reads these when it is imported.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN_PATH", str(layout.token))
    from ray.job_submission import JobSubmissionClient  # noqa: PLC0415 - after the variables above

    # Which of the project's files it sends to the cluster, a line each; the job's own output is what counts.
    for name in ("ray", "ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        return JobSubmissionClient(state.jobs_url)
    except (ConnectionError, RuntimeError) as error:
        raise CommandFailed(f"the job API at {state.jobs_url} does not answer: {error}") from error


async def _follow(client: Any, submission: str) -> None:
    async for lines in client.tail_job_logs(submission):
        print(lines, end="", flush=True)
