"""The table of commands, and how their failures are told: 0 success, 2 wrong usage, 1 failure with one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

import typer

from cluster.errors import HubError

_HELP = "LLM Analytics Hub: everything an LLM platform does, as one trustworthy number."


def _running(app: typer.Typer) -> None:
    from infra.cli import running  # noqa: PLC0415

    app.command()(running.up)
    app.command()(running.down)
    app.command()(running.status)


def _ingest(app: typer.Typer) -> None:
    from infra.cli.ingest import ingest  # noqa: PLC0415

    app.command()(ingest)


def _asking(app: typer.Typer) -> None:
    from infra.cli import asking  # noqa: PLC0415

    app.command()(asking.query)


def _sql(app: typer.Typer) -> None:
    from infra.cli import sql  # noqa: PLC0415

    app.command()(sql.sql)


def _benches(app: typer.Typer) -> None:
    from infra.cli import benches  # noqa: PLC0415

    app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(benches.bench)


def _jobs(app: typer.Typer) -> None:
    from infra.cli import jobs  # noqa: PLC0415

    app.command()(jobs.job)


def _administration(app: typer.Typer) -> None:
    from infra.cli import administration  # noqa: PLC0415

    app.add_typer(administration.keys, name="keys")
    app.add_typer(administration.tenants, name="tenants")


def _prices(app: typer.Typer) -> None:
    from infra.cli import prices  # noqa: PLC0415

    app.command()(prices.prices)


# What a command does not need it does not import: Arrow, DuckDB and the protocols of `ingest` take a second.
_COMMANDS: Mapping[str, Callable[[typer.Typer], None]] = {
    "up": _running,
    "down": _running,
    "status": _running,
    "ingest": _ingest,
    "query": _asking,
    "sql": _sql,
    "bench": _benches,
    "job": _jobs,
    "keys": _administration,
    "tenants": _administration,
    "prices": _prices,
}


def build(verb: str = "") -> typer.Typer:
    """The application with the command `verb` and its neighbours; with every command for any other word."""
    app = typer.Typer(
        name="llmhub", help=_HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )
    # With a callback a lone command keeps its name.
    app.callback()(lambda: None)
    chosen = [_COMMANDS[verb]] if verb in _COMMANDS else list(dict.fromkeys(_COMMANDS.values()))
    for add in chosen:
        add(app)
    return app


def main() -> None:
    """Entry point of the `llmhub` script."""
    try:
        build(sys.argv[1] if len(sys.argv) > 1 else "")()
    except HubError as error:
        hint = f"\n  {error.hint}" if error.hint else ""
        print(f"llmhub: {error.message}{hint}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
