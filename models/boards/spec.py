"""What a kept board may hold: one typed form, read from JSON, checked to the last question and never executed."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from cluster.errors import BodyUnreadable, RequestInvalid
from models.boards.questions import BEFORE, SQL, Question, current, kpi_questions, panel_questions
from models.query.filters import parse_filters
from models.query.kinds import ask
from models.query.parameters import parse_body
from models.query.request import check_measure
from models.query.source import Context
from models.query.view import parse_view

BOARD_BYTES_MAX: Final = 256 * 1024
COLUMNS: Final = 12
_SQL_LENGTH_MAX: Final = 100_000
_SQL_ROWS_MAX: Final = 10_000
_HINT: Final = "docs/api.md describes a board under POST /api/v1/dashboards."

# One line that cannot forge another where it is shown.
_LINE: Final = r"^[^\x00-\x1f\x7f]*\Z"
Title = Annotated[str, Meta(min_length=1, max_length=200, pattern=_LINE)]
Line = Annotated[str, Meta(max_length=500, pattern=_LINE)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
# An event's field or an attribute.
FieldName = Annotated[str, Meta(pattern=r"^([a-z_]{1,40}|attributes\.[\w.\-]{1,120})\Z")]
Names = Annotated[list[Annotated[str, Meta(max_length=200)]], Meta(max_length=24)]


class Place(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a panel stands: columns of twelve and rows, both from 0."""

    x: Annotated[int, Meta(ge=0, lt=COLUMNS)]
    y: Annotated[int, Meta(ge=0, lt=1_000)]
    w: Annotated[int, Meta(ge=1, le=COLUMNS)]
    h: Annotated[int, Meta(ge=1, le=60)]

    def meets(self, other: Place) -> bool:
        """Whether the two share a cell."""
        beside = self.x + self.w <= other.x or other.x + other.w <= self.x
        return not beside and self.y < other.y + other.h and other.y < self.y + self.h


class Drawing(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a chart is drawn where its kind leaves a choice; see `panels/spec.ts` of the page."""

    series: Annotated[int, Meta(ge=1, le=50)] | None = None
    marks: Names | None = None
    hide: Names | None = None
    turn: bool | None = None
    titles: Annotated[dict[str, Line], Meta(max_length=24)] | None = None
    fields: Names | None = None
    ink: Literal["accent", "bad"] | None = None


class DrillDown(Struct, frozen=True, forbid_unknown_fields=True):
    """The page that a click on a group opens."""

    page: Annotated[str, Meta(pattern=r"^[a-z0-9/_-]{1,120}\Z")]


class Panel(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One chart: its question as POST /api/v1/query takes it, or `{"kind": "sql", "sql": ...}`.

    Attributes:
        kind: name of a chart; the page draws a name that it does not know as a table.
        empty: said when there is nothing to draw.
    """

    id: Name
    title: Title
    kind: Annotated[str, Meta(pattern=r"^[a-z_]{1,40}\Z")]
    query: dict[str, Any]
    place: Place
    note: Line = ""
    draw: Drawing | None = None
    drill: DrillDown | None = None
    empty: Line = ""


class Variable(Struct, frozen=True, forbid_unknown_fields=True):
    """A choice above the board that filters every panel by a field."""

    field: FieldName
    title: Title


class Kpi(Struct, frozen=True, forbid_unknown_fields=True):
    """A key figure above the panels."""

    measure: Annotated[str, Meta(max_length=80)]
    title: Title
    worse: Literal["more", "less", "neither"]


class Board(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A board as it is kept, exported and imported."""

    title: Title
    panels: Annotated[list[Panel], Meta(max_length=60)]
    description: Annotated[str, Meta(max_length=2_000)] = ""
    variables: Annotated[list[Variable], Meta(max_length=12)] = []
    range: Literal["", "1h", "6h", "24h", "7d", "30d"] = ""
    refresh: Literal["", "off", "live", "30s", "1m", "5m"] = ""
    kpis: Annotated[list[Kpi], Meta(max_length=8)] = []
    annotations: bool = False


def parse_board(body: bytes, context: Context) -> Board:
    """The board of a JSON text; every refusal names the JSON path of the fault.

    Args:
        context: what its questions are read with; none of them is asked.
    Raises:
        BodyUnreadable: not JSON.
        RequestInvalid: not a board, or one whose panels leave the grid, meet, or ask what cannot be asked.
    """
    try:
        board = msgspec.json.decode(body, type=Board)
    except msgspec.ValidationError as error:
        raise RequestInvalid(str(error), hint=_HINT) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise BodyUnreadable("the body is not JSON", hint=_HINT) from error
    for place, kpi in enumerate(board.kpis):
        _at(f"$.kpis[{place}].measure", check_measure, kpi.measure)
    for place, variable in enumerate(board.variables):
        _at(f"$.variables[{place}].field", parse_filters, [f"{variable.field}:exists:true"])
    _check_grid(board.panels)
    for place, panel in enumerate(board.panels):
        _at(f"$.panels[{place}].query", _check_query, panel.query, context)
    return board


def board_text(board: Board) -> bytes:
    """The JSON a board is kept as; `parse_board` gives the same board back."""
    return msgspec.json.encode(board)


def questions_of(board: Board, filters: list[str]) -> dict[str, Question]:
    """Every question of the board by name: the panel's id, with BEFORE for the period before, and the key figures."""
    found = kpi_questions([kpi.measure for kpi in board.kpis], board.range, filters)
    for panel in board.panels:
        asked = panel_questions(panel.query, board.range, filters)
        found.update(zip((panel.id, panel.id + BEFORE), asked, strict=False))
    return found


def check_filters(board: Board, filters: list[str], context: Context) -> None:
    """Whether every question of the board can be narrowed by these filters.

    Raises:
        RequestInvalid: a filter cannot be read, or a panel would show more than they leave; the path names it.
    """
    _at("$.filters", parse_filters, filters)
    for place, panel in enumerate(board.panels if filters else ()):
        for question in panel_questions(panel.query, board.range, filters):
            _at(f"$.panels[{place}].query", _check_narrowed, question, context)


def _check_grid(panels: list[Panel]) -> None:
    names: set[str] = set()
    for place, panel in enumerate(panels):
        if panel.id in names:
            raise RequestInvalid(f"another panel has this id - at `$.panels[{place}].id`", hint="Give each its own.")
        names.add(panel.id)
        if panel.place.x + panel.place.w > COLUMNS:
            raise RequestInvalid(
                f"the panel ends beyond column {COLUMNS} - at `$.panels[{place}].place.w`", hint="Keep x + w within 12."
            )
        if any(panel.place.meets(other.place) for other in panels[:place]):
            raise RequestInvalid(
                f"the panel covers one before it - at `$.panels[{place}].place`", hint="Move it down or aside."
            )


def _check_query(query: dict[str, Any], context: Context) -> None:
    if query.get("kind") == SQL:
        _check_sql(query, context)
        return
    kind, pairs = parse_body(current(query))
    ask(kind, pairs, context)


def _check_narrowed(question: dict[str, Any], context: Context) -> None:
    if question.get("kind") == SQL:
        raise RequestInvalid("filters do not reach into SQL", hint="Leave the filters or the SQL panel out.")
    _check_query(question, context)


def _check_sql(query: dict[str, Any], context: Context) -> None:
    unknown = [name for name in query if name not in ("kind", "sql", "limit", "from", "to")]
    if unknown:
        hint = "A SQL panel has sql, and if wanted limit, from and to."
        raise RequestInvalid(f"{unknown[0][:80]!r} is not known here", hint=hint)
    (asked,) = panel_questions(query, "")
    parse_view(asked["view"], now_us=context.now_us)
    sql, limit = query.get("sql"), query.get("limit", 1)
    if not isinstance(sql, str) or not 0 < len(sql.strip()) <= len(sql) <= _SQL_LENGTH_MAX or "\x00" in sql:
        raise RequestInvalid(f"sql is not a text of 1 to {_SQL_LENGTH_MAX} characters", hint="Write one SELECT.")
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _SQL_ROWS_MAX:
        raise RequestInvalid(f"limit is not a whole number from 1 to {_SQL_ROWS_MAX}", hint="Leave it out.")


def _at(path: str, check: Any, *given: Any) -> None:
    try:
        check(*given)
    except RequestInvalid as error:
        raise RequestInvalid(f"{error.message} - at `{path}`", hint=error.hint) from error
