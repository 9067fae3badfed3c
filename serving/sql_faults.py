"""What DuckDB says when a statement fails, as a refusal its asker can act on: no path, no inside of the engine."""

from __future__ import annotations

import re
from typing import Any, Final

import duckdb
import msgspec
import pyarrow as pa

from cluster.errors import HubError
from serving.sql_job import SqlRefusal

_INVALID: Final = "request_invalid"
# Faults of the statement itself, whose words may be told.
_OF_THE_STATEMENT: Final = (
    duckdb.ParserException,
    duckdb.SyntaxException,
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.ConversionException,
    duckdb.OutOfRangeException,
    duckdb.InvalidInputException,
    duckdb.InvalidTypeException,
    duckdb.TypeMismatchException,
    duckdb.NotImplementedException,
)
# Absolute paths and addresses of any kind.
_PATHS: Final = re.compile(r"(?:[A-Za-z]:)?[A-Za-z0-9+.-]*:?(?:[/\\]+[^\s'\"/\\,;()]+){2,}[/\\]?")
_CANDIDATES: Final = re.compile(r"Candidate bindings: ([^\n]*)")
_MESSAGE_LENGTH_MAX: Final = 400
_CANDIDATES_MAX: Final = 6
_MEMORY: Final = SqlRefusal(
    _INVALID,
    "the statement needs more memory than one may use",
    "Ask for fewer rows or groups, a shorter range, or shorter texts.",
    spent=True,
)
# A file that was removed since the table's newest version was looked at.
_MOVED: Final = SqlRefusal("busy", "the files of the table were replaced meanwhile", "Ask again in a second.")


def refusal(error: Exception, *, timeout_s: float) -> SqlRefusal:
    """The refusal for what was raised while a statement was checked, run or written."""
    if isinstance(error, HubError):
        return SqlRefusal(error.code, error.message, error.hint)
    if isinstance(error, duckdb.InterruptException):
        return too_long(timeout_s)
    if isinstance(error, duckdb.OutOfMemoryException | MemoryError | pa.ArrowMemoryError):
        return _MEMORY
    if isinstance(error, duckdb.IOException):
        return _MOVED
    if isinstance(error, OSError):
        return _while_streaming(str(error), timeout_s)
    if isinstance(error, _OF_THE_STATEMENT):
        return _told(str(error))
    if isinstance(error, msgspec.DecodeError | RecursionError):
        return SqlRefusal(_INVALID, "the statement is nested too deeply", "Split it, or write lists with IN.")
    if isinstance(error, duckdb.PermissionException):
        return SqlRefusal(_INVALID, "the statement reads what is not its own", "Read the tables by their names.")
    if isinstance(error, OverflowError | ValueError | pa.ArrowException):
        return SqlRefusal(
            _INVALID,
            "a value of the answer has no form in this media type",
            "Cast the column to VARCHAR in the SELECT.",
        )
    # Whatever else DuckDB raises may have left the database unusable.
    return SqlRefusal(_INVALID, "the engine cannot run this statement", "Write it more plainly.", spent=True)


def _while_streaming(text: str, timeout_s: float) -> SqlRefusal:
    """The refusal for a fault of a later batch: Arrow keeps no kind of it but the first words."""
    kind = text.partition(" Error:")[0]
    if kind == "INTERRUPT":
        return too_long(timeout_s)
    if kind == "Out of Memory":
        return _MEMORY
    if kind == "IO":
        return _MOVED
    if kind in ("Conversion", "Out of Range", "Invalid Input", "Mismatch Type"):
        return _told(text)
    return SqlRefusal(_INVALID, "the engine cannot run this statement", "Write it more plainly.", spent=True)


def too_long(timeout_s: float) -> SqlRefusal:
    """The refusal of a statement that did not end in time."""
    return SqlRefusal(
        _INVALID,
        f"the statement ran over {timeout_s:.3g} s and was cancelled",
        "Ask for a shorter range (WHERE occurred_at >= ...), or join and group less.",
    )


def out_of_memory() -> SqlRefusal:
    """The refusal of a statement that brought its process to an end."""
    return _MEMORY


def _told(text: str) -> SqlRefusal:
    """The words of a fault; DuckDB was told to write them as JSON after the kind of exception, and mostly does."""
    _, brace, rest = text.partition("{")
    try:
        told = msgspec.json.decode(brace + rest) if brace else _plain(text)
    except msgspec.DecodeError:
        told = _plain(text)
    message = str(told.get("exception_message", ""))
    # The rest lists what might have been meant, and belongs to the hint.
    message, _, _ = message.partition("\n")
    message = _PATHS.sub("…", message)[:_MESSAGE_LENGTH_MAX]
    position = str(told.get("position", ""))
    where = f" (at character {int(position) + 1})" if position.isdigit() else ""
    return SqlRefusal(_INVALID, f"{message}{where}", _hint(told, message))


def _plain(text: str) -> dict[str, Any]:
    """The same members from a fault that was found when rows were asked for, which is told as plain text."""
    kind, _, rest = text.partition(" Error: ")
    candidates = _CANDIDATES.search(rest)
    missing = "not found in FROM clause" in rest
    return {
        "exception_type": kind,
        "exception_message": rest or text,
        "candidates": candidates[1].replace('"', "") if candidates else "",
        "error_subtype": "COLUMN_NOT_FOUND" if missing else "NO_MATCHING_FUNCTION" if "No function" in rest else "",
    }


def _hint(told: dict[str, Any], message: str) -> str:
    candidates = [one.strip() for one in str(told.get("candidates", "")).split(",") if one.strip()]
    if told.get("error_subtype") == "COLUMN_NOT_FOUND" and candidates:
        return f"Near names: {', '.join(candidates[:_CANDIDATES_MAX])}."
    if told.get("error_subtype") == "NO_MATCHING_FUNCTION":
        return "Cast the argument, as in CAST(x AS DOUBLE)."
    if "parameter" in message.lower():
        return 'Send "parameters": a list for `?`, an object for `$name`, with a value for each.'
    if told.get("exception_type") == "Parser":
        return "The dialect is DuckDB's: close to PostgreSQL."
    if told.get("exception_type") in ("Conversion", "Out of Range"):
        return "TRY_CAST gives NULL where a value does not fit."
    return "SELECT * FROM events LIMIT 0 names all columns."
