"""The table of commands, and how their failures are told: 0 success, 2 wrong usage, 1 failure with one line."""

from __future__ import annotations

import sys

import typer

from cluster.errors import HubError
from infra.cli import administration, asking, benches, jobs, running
from infra.cli.ingest import ingest

app = typer.Typer(
    name="llmhub",
    help="LLM Analytics Hub: everything an LLM platform does, as one trustworthy number.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(running.up)
app.command()(running.down)
app.command()(running.status)
app.command()(ingest)
app.command()(asking.query)
app.command()(asking.sql)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(benches.bench)
app.command()(jobs.job)
app.add_typer(administration.keys, name="keys")
app.add_typer(administration.tenants, name="tenants")


def main() -> None:
    """Entry point of the `llmhub` script."""
    try:
        app()
    except HubError as error:
        hint = f"\n  {error.hint}" if error.hint else ""
        print(f"llmhub: {error.message}{hint}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
