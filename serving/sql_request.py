"""What is sent with a statement: `{"sql", "parameters", "view", "limit", "as_of"}`, and the form of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from cluster.errors import BodyUnreadable, HubError, RequestInvalid
from models.query.fields import near
from models.query.times import parse_instant
from models.query.view import View, parse_view
from serving.sql_job import SqlForm

_NAMES: Final = ("sql", "parameters", "view", "limit", "as_of")
_SQL_LENGTH_MAX: Final = 100_000
_PARAMETERS_MAX: Final = 1_000
_LIMIT_DEFAULT: Final = 10_000
_AS_OF_HINT: Final = 'as_of is a time ("2026-05-03T00:00:00Z", "-2h") or versions of tables ({"events": 12}).'


class NotAcceptable(HubError):
    """No media type of the Accept header can be given."""

    code = "not_acceptable"
    hint = f"Accept one of {', '.join(SqlForm)}."


@dataclass(frozen=True, slots=True)
class SqlRequest:
    """A statement as asked.

    Attributes:
        parameters: values of `?` in their order, or of `$name`; null, booleans, numbers and texts.
        limit: most rows.
        view: values of the board that the statement stands on, by the names it may know them by.
        at_us: read every table as of that instant; or
        versions: read these tables at these versions, and no others.
    """

    sql: str
    parameters: list[Any] | dict[str, Any]
    limit: int
    form: SqlForm
    view: View | None = None
    at_us: int | None = None
    versions: dict[str, int] | None = None


def parse_request(body: bytes, accept: str, *, rows_max: int, now_us: int) -> SqlRequest:
    """The request of a body and an Accept header.

    Raises:
        NotAcceptable: none of the three forms is accepted.
        BodyUnreadable: the body is not JSON.
        RequestInvalid: a member is missing, unknown or out of range; the message names it.
    """
    form = parse_accept(accept)
    try:
        given = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BodyUnreadable("the body is not JSON", hint='Send {"sql": "SELECT ..."}.') from error
    if not isinstance(given, dict):
        raise RequestInvalid("the body is not an object", hint='Send {"sql": "SELECT ..."}.')
    for name in given:
        if name not in _NAMES:
            raise RequestInvalid(f"{name[:80]!r} is not known here", hint=near(name, _NAMES))
    at_us, versions = _as_of(given.get("as_of"), now_us)
    parameters, view = _parameters(given.get("parameters")), given.get("view")
    if view is not None and isinstance(parameters, list) and parameters:
        raise RequestInvalid("view cannot be told to a statement with `?`", hint='Write `$name`, send {"name": value}.')
    return SqlRequest(
        sql=_sql(given.get("sql")),
        parameters=parameters,
        limit=_limit(given.get("limit"), rows_max),
        form=form,
        view=None if view is None else parse_view(view, now_us=now_us),
        at_us=at_us,
        versions=versions,
    )


def parse_accept(accept: str) -> SqlForm:
    """The form most wanted; JSON where anything will do.

    Raises:
        NotAcceptable: none of ours is named.
    """
    if not accept.strip():
        return SqlForm.JSON
    wanted = sorted((_weighted(part) for part in accept.split(",")), key=lambda one: -one[1])
    for media, weight in wanted:
        if weight <= 0:
            continue
        for form in SqlForm:
            if media in ("*/*", form.value, f"{form.value.partition('/')[0]}/*"):
                return form
    raise NotAcceptable(f"{accept[:80]!r} names no form that rows are written in")


def _weighted(part: str) -> tuple[str, float]:
    media, *parameters = (text.strip().lower() for text in part.split(";"))
    weight = 1.0
    for text in parameters:
        name, _, value = text.partition("=")
        if name == "q":
            try:
                weight = float(value)
            except ValueError:
                weight = 0.0
    return media, weight


def _sql(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise RequestInvalid("sql is missing", hint='Send {"sql": "SELECT ..."}.')
    if len(value) > _SQL_LENGTH_MAX:
        raise RequestInvalid(
            f"sql is over {_SQL_LENGTH_MAX} characters", hint="Send long lists as parameters: x IN (SELECT unnest(?))."
        )
    # A text that ends early for one reader and not for another.
    if "\x00" in value:
        raise RequestInvalid("sql holds a NUL character", hint="Leave it out.")
    return value


def _parameters(value: Any) -> list[Any] | dict[str, Any]:
    if value is None:
        return []
    if not isinstance(value, list | dict) or len(value) > _PARAMETERS_MAX:
        raise RequestInvalid(
            f"parameters is not a list or an object of at most {_PARAMETERS_MAX} values",
            hint='Send ["m-1"] for `?`, {"model": "m-1"} for `$model`.',
        )
    named = value.items() if isinstance(value, dict) else enumerate(value)
    for name, one in named:
        plain = one if isinstance(one, list) else [one]
        if not all(each is None or isinstance(each, bool | int | float | str) for each in plain):
            raise RequestInvalid(
                f"parameters[{str(name)[:80]!r}] is not a plain value or a list of them",
                hint="Values are null, booleans, numbers, texts, and lists of those.",
            )
    return value


def _limit(value: Any, rows_max: int) -> int:
    if value is None:
        return min(_LIMIT_DEFAULT, rows_max)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= rows_max:
        raise RequestInvalid(f"limit is not a whole number from 1 to {rows_max}", hint="Aggregate, or ask by ranges.")
    return value


def _as_of(value: Any, now_us: int) -> tuple[int | None, dict[str, int] | None]:
    if value is None:
        return None, None
    if isinstance(value, str):
        return parse_instant("as_of", value, now_us=now_us), None
    versions = {"events": value} if isinstance(value, int) and not isinstance(value, bool) else value
    if isinstance(versions, dict) and versions and all(_is_version(one) for one in versions.values()):
        return None, versions
    raise RequestInvalid("as_of is neither a time nor versions of tables", hint=_AS_OF_HINT)


def _is_version(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**15
