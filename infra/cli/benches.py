"""`llmhub bench NAME`: one benchmark of tests/bench."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from infra.cli.failures import CommandFailed
from infra.runtime.edge import ROOT


def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Which benchmark; an unknown name lists them.")],
    data: Annotated[Path | None, typer.Option("--data", help="Folder of real data, laid out as the docs say.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures there as JSON.")] = None,
) -> None:
    """Run one named benchmark and print its figures. Other options go to the benchmark as they are."""
    # Benchmarks are part of the sources, not of the installed package.
    sys.path.insert(0, str(ROOT))
    try:
        import tests.bench as benchmarks  # noqa: PLC0415 - the path was just added
    except ImportError as error:
        raise CommandFailed("benchmarks need the source tree", hint="Run from a clone of the project.") from error
    names = sorted(module.name for module in pkgutil.iter_modules(benchmarks.__path__) if "_" not in module.name)
    if name not in names:
        print(f"no benchmark {name!r}; there are: {' '.join(names)}", file=sys.stderr)
        raise typer.Exit(2)
    arguments = list(context.args)
    arguments += ["--data", str(data)] if data else []
    arguments += ["--json", str(json_file)] if json_file else []
    importlib.import_module(f"tests.bench.{name}").main(arguments)
