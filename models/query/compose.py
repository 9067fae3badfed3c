"""The SQL of a metrics plan, over rows somebody else supplies: grouped, folded, and merged where SQL can merge."""
# ruff: noqa: S608 (the text is ours, every value is bound: models/query/sql.py)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from models.aggregate import quantiles
from models.measures import MEASURES, SECONDS, STATES, Measure, Need
from models.query.filters import conditions
from models.query.plan import Plan
from models.query.sql import Fragment, joined, placed
from models.query.times import SECOND_US, Range

# The group that the groups beyond the limit are folded into, in place of each of their values.
OTHER: Final = "__other__"


@dataclass(frozen=True, slots=True)
class Composition:
    """A plan over one range of rows.

    Attributes:
        rows: SELECT of table rows with the key columns `t_`, `g0_`, `g1_` … added; `t_` only for a timeseries.
        folded: some groups were moved into OTHER.
    """

    plan: Plan
    span: Range
    rows: Fragment
    folded: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Key columns: bucket start in microseconds, then one for each grouped field."""
        times = ("t_",) if self.plan.request.step_us else ()
        return (*times, *group_columns(self.plan))

    def scalars(self, *, limit: int) -> Fragment:
        """Keys, then `v_NAME` for each measure SQL can finalise alone; a row for each key that has any row."""
        told = [
            f'{self.sql(measure)} AS "v_{measure.name}"'
            for measure in self._measures()
            if self.sql(measure) is not None
        ]
        columns = ", ".join((*self.keys, *told, "count(*) AS rows_"))
        return placed(f"SELECT {columns} FROM ({{}}) AS r {self._grouped()} LIMIT {limit}", self.rows)

    def histograms(self, need: Need, asked: Sequence[float]) -> Fragment:
        """Keys, then `q0`, `q1` …: the histogram bucket that each quantile falls into, nearest rank."""
        keys = "".join(f"{key}, " for key in self.keys)
        window = f"PARTITION BY {', '.join(self.keys)}" if self.keys else ""
        picked = ", ".join(
            f"min(b_) FILTER (WHERE running_ >= greatest(1, ceil({quantile!r}::DOUBLE * total_))) AS q{index}"
            for index, quantile in enumerate(asked)
        )
        template = (
            f"SELECT {keys}{picked} FROM ("
            f"SELECT {keys}b_, sum(c_) OVER ({window} ORDER BY b_) AS running_, "
            f"sum(c_) OVER ({window}) AS total_ FROM ({{}})) {self._grouped()}"
        )
        return placed(template, self.occupied(need))

    def occupied(self, need: Need) -> Fragment:
        """Keys, then `b_` and `c_`: each histogram bucket that holds values, and how many."""
        keys = "".join(f"{key}, " for key in self.keys)
        columns, raw, kept = STATES[need]
        if self.plan.from_rollups:
            buckets, counts = columns
            inner = f"SELECT {keys}unnest({buckets}) AS b_, unnest({counts}) AS c_ FROM ({{}}) AS r"
        else:
            inner = f"SELECT {keys}{quantiles.bucket_sql(raw)} AS b_, 1 AS c_ FROM ({{}}) AS r WHERE {kept}"
        return placed(f"SELECT {keys}b_, sum(c_)::BIGINT AS c_ FROM ({inner}) GROUP BY ALL", self.rows)

    def sketches(self, need: Need) -> Fragment:
        """Keys, then `s_`: the list of serialised sketches to merge."""
        column = STATES[need][0][0]
        columns = ", ".join((*self.keys, f"list({column}) AS s_"))
        return placed(f"SELECT {columns} FROM ({{}}) AS r WHERE {column} IS NOT NULL {self._grouped()}", self.rows)

    def group_count(self, *, most: int | None = None) -> Fragment:
        """How many groups there are; counting stops at `most`."""
        limit = "" if most is None else f" LIMIT {most}"
        columns = ", ".join(group_columns(self.plan))
        return placed(f"SELECT count(*) FROM (SELECT DISTINCT {columns} FROM ({{}}) AS r{limit})", self.rows)

    def _measures(self) -> list[Measure]:
        return [MEASURES[name] for name in self.plan.request.measures]

    def sql(self, measure: Measure) -> str | None:
        """Aggregate over the rows; None where only merging outside SQL gives the value."""
        text = measure.rollup_sql if self.plan.from_rollups else measure.event_sql
        return None if text is None else text.replace("{" + SECONDS + "}", self._seconds())

    def _seconds(self) -> str:
        request = self.plan.request
        if not request.step_us:
            return f"{self.span.length_us / SECOND_US!r}"
        # The first and last bucket count the seconds inside the range only, else they would look quiet.
        length = request.buckets.length_sql("t_")
        inside = f"least(t_ + {length}, {self.span.to_us}) - greatest(t_, {self.span.from_us})"
        return f"(({inside}) / {SECOND_US})::DOUBLE"

    def _grouped(self) -> str:
        return f"GROUP BY {', '.join(self.keys)}" if self.keys else ""


def group_columns(plan: Plan) -> tuple[str, ...]:
    """Names of the columns that hold the values of the grouped fields, in the order they were asked."""
    return tuple(f"g{index}_" for index in range(len(plan.request.group_by)))


def compose(plan: Plan, table: Fragment, span: Range) -> Composition:
    """The plan over the rows of `table` inside `span`.

    Args:
        table: SELECT of rows of the plan's table, already cut to the tenants that may be seen.
    """
    request, time = plan.request, plan.time_column
    bucket = f"{request.buckets.start_sql(time)} AS t_, " if request.step_us else ""
    groups = joined(
        (
            placed(f"CAST({{}} AS VARCHAR) AS {column}, ", field.sql)
            for column, field in zip(group_columns(plan), request.group_by, strict=True)
        ),
        "",
    )
    inside = Fragment(
        f"{time} >= make_timestamptz(?::BIGINT) AND {time} < make_timestamptz(?::BIGINT)", (span.from_us, span.to_us)
    )
    kept = conditions(request.filters)
    # SELECT * costs nothing: columns nobody reads above are not read below.
    template = f"SELECT {bucket}{{}}src.* FROM ({{}}) AS src WHERE {{}} AND {{}}"
    return Composition(plan, span, placed(template, groups, table, inside, kept))


def largest(whole: Composition, *, groups: int, by: Measure | None = None) -> Fragment:
    """The `groups` largest groups of a composition.

    Args:
        by: measure that SQL can finalise over the plan's rows; None for the first additive one, else events.
    """
    plan = whole.plan
    additive = [MEASURES[name] for name in plan.request.measures if MEASURES[name].additive]
    weight = by or (additive[0] if additive else MEASURES["event_count"])
    columns = ", ".join(group_columns(plan))
    return placed(
        f"SELECT {columns} FROM ({{}}) AS r GROUP BY {columns} "
        f"ORDER BY {whole.sql(weight)} DESC NULLS LAST, {columns} LIMIT {groups}",
        whole.rows,
    )


def listed(plan: Plan, groups: Sequence[tuple[str | None, ...]]) -> Fragment:
    """The given groups, at least one, as `largest` would tell them."""
    row = f"({', '.join(['CAST(? AS VARCHAR)'] * len(group_columns(plan)))})"
    return Fragment(
        f"SELECT * FROM (VALUES {', '.join([row] * len(groups))}) AS v({', '.join(group_columns(plan))})",
        tuple(value for group in groups for value in group),
    )


def fold(part: Composition, kept: Fragment) -> Composition:
    """The same rows, those outside the `kept` groups moved into the group OTHER."""
    columns = group_columns(part.plan)
    moved = ", ".join(f"CASE WHEN k.kept_ THEN i.{name} ELSE '{OTHER}' END AS {name}" for name in columns)
    same = " AND ".join(f"i.{name} IS NOT DISTINCT FROM k.{name}" for name in columns)
    rows = placed(
        f"SELECT i.* REPLACE ({moved}) FROM ({{}}) AS i LEFT JOIN (SELECT *, true AS kept_ FROM ({{}})) AS k ON {same}",
        part.rows,
        kept,
    )
    return Composition(part.plan, part.span, rows, folded=True)
