"""`llmhub ingest`: sends files through the HTTP door, resumable, and tells what became of every row.

Rows without an id get one from the content of their file (or `--source`) and their number in it, so the hub
recognises them when they are sent again. While a file is being sent, how far it was acknowledged is kept in
DIR/ingest; an interrupted command goes on from there, and a finished one leaves nothing behind: repeated whole, it
doubles nothing as long as the hub remembers the ids (HUB_SEEN_LIMIT).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from cluster.contract.instants import instant_us
from cluster.errors import HubError, RequestInvalid
from cluster.sdk.client import HubClient, Signal
from infra.cli.ingest_files import Parcel, SourceFile, inspect, parcels, rejected
from infra.cli.ingest_presets import preset_for
from infra.cli.ingest_rows import Plan, check_field
from infra.runtime.layout import HubState, Layout

_DEFAULT_URL: Final = "http://127.0.0.1:8000"
_REFUSALS_SHOWN: Final = 5
# Plain output gets a line this often, a terminal its bar.
_LINE_EVERY_S: Final = 10.0


@dataclass(slots=True)
class Outcome:
    """What became of the rows of one file. Rows sent over OTLP count as accepted: its answer does not tell repeats."""

    accepted: int = 0
    repeated: int = 0
    refused: int = 0
    resumed_at: int = 0
    seconds: float = 0.0
    refusals: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return self.accepted + self.repeated + self.refused

    def line(self, name: str) -> str:
        """One line for a person."""
        speed = f"{self.rows / self.seconds:,.0f} rows/s" if self.seconds > 0 else "at once"
        resumed = f", resumed at row {self.resumed_at:,}" if self.resumed_at else ""
        return (
            f"{name}: {self.accepted:,} accepted, {self.repeated:,} repeated, {self.refused:,} refused"
            f" in {self.seconds:.1f} s ({speed}){resumed}"
        )


class Bookmark:
    """How far a file was acknowledged by one hub under one plan; kept until the file is done."""

    def __init__(self, folder: Path, url: str, plan: Plan) -> None:
        words = json.dumps([url, plan.source, sorted(plan.maps.items()), sorted(plan.sets.items()), plan.start_us])
        self._path = folder / f"{hashlib.blake2b(words.encode(), digest_size=12).hexdigest()}.json"

    def row(self) -> int:
        """The first row not yet acknowledged."""
        try:
            return int(json.loads(self._path.read_text())["row"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def move(self, row: int) -> None:
        """Rows before `row` were acknowledged."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".tmp")
        temporary.write_text(json.dumps({"row": row}))
        temporary.replace(self._path)

    def remove(self) -> None:
        """The file is done."""
        self._path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Cutting:
    """How a file is cut into requests, and where its bookmarks lie."""

    batch: int
    signal: Signal
    bookmarks: Path


def send(
    client: HubClient, file: SourceFile, plan: Plan, cutting: Cutting, *, told: Callable[[Outcome], None]
) -> Outcome:
    """Send a file from where its bookmark lies; `told` hears of every acknowledged batch.

    Raises:
        HubError: the file cannot be read, or the hub cannot be reached; the bookmark stays.
    """
    bookmark = Bookmark(cutting.bookmarks, client.url, plan)
    outcome = Outcome(resumed_at=bookmark.row())
    started = time.monotonic()
    cut = parcels(file, plan, batch=cutting.batch, skip_rows=outcome.resumed_at, signal=cutting.signal)
    for parcel in cut:
        _count(client, parcel, outcome)
        bookmark.move(parcel.first_row + parcel.rows)
        outcome.seconds = time.monotonic() - started
        told(outcome)
    bookmark.remove()
    return outcome


def _count(client: HubClient, parcel: Parcel, outcome: Outcome) -> None:
    if parcel.signal is not None:
        response = client.post_otlp(parcel.signal, parcel.body, content_type=parcel.content_type)
        refused = min(rejected(parcel.signal, response, parcel.content_type), parcel.rows)
        outcome.refused += refused
        outcome.accepted += parcel.rows - refused
        return
    receipt = client.post_body(parcel.body, parcel.content_type)
    outcome.accepted += receipt.accepted
    outcome.repeated += receipt.repeated
    outcome.refused += receipt.refused
    for error in receipt.errors[: max(0, _REFUSALS_SHOWN - len(outcome.refusals))]:
        outcome.refusals.append(f"row {parcel.first_row + error.index}: {error.code}: {error.message}")


def ingest(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", exists=True, dir_okay=False)],
    *,
    source: Annotated[str, typer.Option(help="Name that ids of rows are made from, instead of the content.")] = "",
    tenant: Annotated[str, typer.Option(help="Another tenant that an admin key covers.")] = "",
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="FIELD=COLUMN", help="Field of the event and its column, or SQL expression."),
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Value of rows that have none.")
    ] = None,
    start: Annotated[str, typer.Option(help="RFC 3339 time that an occurred_at in seconds counts from.")] = "",
    signal: Annotated[str, typer.Option(help="What OTLP protobuf files hold: traces, logs or metrics.")] = "traces",
    url: Annotated[str, typer.Option(envvar="HUB_URL", help="The hub; by default the one of DIR.")] = "",
    key: Annotated[str, typer.Option(envvar="HUB_API_KEY", help="API key; by default the admin key of DIR.")] = "",
    data: Annotated[Path, typer.Option(envvar="HUB_DATA", metavar="DIR", help="Folder of the hub.")] = Path(".llmhub"),
    batch: Annotated[int, typer.Option(min=1, max=100_000, help="Rows in one request.")] = 5_000,
) -> None:
    """Send NDJSON, JSON, CSV, Parquet, Arrow or OTLP files to the hub.

    COLUMN of an NDJSON or JSON row is a field, dotted into nested objects. Exits 1 where a row was refused.
    """
    console = Console(stderr=True)
    try:
        if signal not in ("traces", "logs", "metrics"):
            raise RequestInvalid(f"--signal {signal!r} is not one of traces, logs, metrics")
        wanted = Plan("", _pairs(maps, "--map"), _pairs(sets, "--set"), _start(start))
    except RequestInvalid as error:
        raise typer.BadParameter(f"{error.message}. {error.hint}".strip()) from None
    refused = 0
    try:
        layout = Layout(data.resolve())
        target, secret = _target(layout, url, key)
        cutting = Cutting(batch, signal, layout.data / "ingest")  # type: ignore[arg-type]
        with HubClient(target, secret, tenant=tenant or None) as client:
            for path in files:
                file = inspect(path)
                plan = Plan(
                    f"{source}/{path.name}" if source else file.fingerprint, wanted.maps, wanted.sets, wanted.start_us
                )
                outcome = _shown(client, file, plan, (cutting, console))
                refused += outcome.refused
                typer.echo(outcome.line(path.name))
                for line in outcome.refusals:
                    console.print(f"  {line}", markup=False, highlight=False)
    except HubError as error:
        console.print(f"error: {error.message}" + (f"\n{error.hint}" if error.hint else ""), markup=False)
        raise typer.Exit(1) from None
    if refused:
        console.print(f"error: {refused:,} rows were refused; the hub keeps them as dead letters", markup=False)
        raise typer.Exit(1)


def _shown(client: HubClient, file: SourceFile, plan: Plan, how: tuple[Cutting, Console]) -> Outcome:
    cutting, console = how
    preset = preset_for(list(file.columns))
    if preset is not None:
        console.print(f"{file.path.name}: read as {preset.name}", highlight=False)
    bar: AbstractContextManager[Progress] | nullcontext[None] = nullcontext()
    if console.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        bar = Progress(*columns, console=console, transient=True)
    with bar as progress:
        task = progress.add_task(file.path.name, total=file.rows) if progress is not None else None
        last = time.monotonic()

        def told(outcome: Outcome) -> None:
            nonlocal last
            if progress is not None and task is not None:
                progress.update(task, completed=outcome.resumed_at + outcome.rows)
            elif time.monotonic() - last >= _LINE_EVERY_S:
                last = time.monotonic()
                console.print(outcome.line(file.path.name), highlight=False)

        return send(client, file, plan, cutting, told=told)


def _pairs(texts: list[str] | None, option: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise RequestInvalid(f"{option} {text!r} is not of the form FIELD=…")
        out[check_field(name.strip())] = value
    return out


def _start(text: str) -> int | None:
    at_us = instant_us(text) if text else None
    if text and at_us is None:
        raise RequestInvalid(f"--start {text!r} is not a time", hint="Use RFC 3339, as 2024-01-01T00:00:00Z.")
    return at_us


def _target(layout: Layout, url: str, key: str) -> tuple[str, str]:
    """The hub's URL and a key: as given, else those of the hub of the data folder."""
    state = HubState.load(layout)
    target = url or (state.url if state else _DEFAULT_URL)
    if key:
        return target, key
    try:
        return target, layout.admin_key.read_text().strip()
    except OSError:
        raise RequestInvalid(
            f"no API key: --key and HUB_API_KEY are empty, and {layout.admin_key} cannot be read",
            hint="`llmhub keys create` makes a key.",
        ) from None
