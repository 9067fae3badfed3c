"""A question over raw events, answered block by block: what a block of files is reduced to, and the answer from that.

A block becomes partials by the asked groups and buckets, made and merged by the functions that make roll-ups
(`models.aggregate.rollup`): counts, tokens and money to the last digit, histograms and sketches as roll-ups keep them.
The answer is then written by the kind itself, as from any roll-up. Only what it asks of rows differs, so the plans are
moved: the groups are columns of the partials, and what the filters kept is marked with the plan's number.
"""
# ruff: noqa: S608 (the text is ours, every value is bound: models/query/sql.py)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa

from cluster.contract.columns import EVENT_SCHEMA, INSTANT
from cluster.errors import RequestInvalid
from models.aggregate.rollup import STATE_COLUMNS, inputs_of, merge, roll_by
from models.measures import MEASURES
from models.query.compose import compose
from models.query.fields import Field
from models.query.filters import Filter
from models.query.kinds import Question
from models.query.plan import NO_FLOORS, Plan
from models.query.source import Rows
from models.query.sql import Fragment, Run, placed
from models.query.times import Range

# What the partials are called in the SQL that reads them.
RELATION: Final = "partials"
_PART: Final = "part"
_SPAN: Final = "span_us"
_WINDOW: Final = "window_start"


@dataclass(frozen=True, slots=True)
class Part:
    """One range of one plan: rows of each are reduced apart from all others.

    Attributes:
        place: of the plan in its question.
    """

    place: int
    span: Range


@dataclass(frozen=True, slots=True)
class KeptField(Field):
    """A grouped field as the partials hold it."""

    column: str = ""

    @property
    def sql(self) -> Fragment:
        return Fragment(self.column)


def in_blocks(question: Question) -> bool:
    """Whether raw events answer it, and partials of them would."""
    return question.planned is not None and not question.from_rollups


def parts_of(question: Question) -> tuple[Part, ...]:
    """Every range that the question reads, plan by plan."""
    return tuple(Part(place, span) for place, plan in enumerate(question.plans) for span in plan.ranges)


@dataclass(frozen=True, slots=True)
class Reduction:
    """How the rows of a block become partials, for all plans of one question, which have groups and buckets alike.

    Attributes:
        keys: of the partials: the plan, the start of the range, the start of the bucket, the groups.
        states: what the measures are made from.
    """

    plans: tuple[Plan, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        return (_PART, _SPAN, _WINDOW, *_columns(self.plans[0]))

    @property
    def states(self) -> tuple[str, ...]:
        asked = {"event_count", *(name for plan in self.plans for name in plan.request.measures)}
        needed = {column for name in asked for column in MEASURES[name].columns}
        return tuple(name for name in STATE_COLUMNS if name in needed)

    @property
    def schema(self) -> pa.Schema:
        """What `select` gives."""
        inputs = [EVENT_SCHEMA.field(name).with_nullable(True) for name in inputs_of(self.states)]
        texts = [pa.field(name, pa.string()) for name in (_PART, *_columns(self.plans[0]))]
        times = [pa.field(_SPAN, pa.int64()), pa.field(_WINDOW, INSTANT)]
        return pa.schema([*texts[:1], *times, *texts[1:], *inputs])

    def select(self, part: Part, rows: Fragment) -> Fragment:
        """The rows that the part's filters keep, with their keys and what the states are made from.

        Args:
            rows: SELECT of events that may be seen.
        """
        plan, span = self.plans[part.place], part.span
        # A bucket may begin before its range; its rows do not.
        start = f"greatest(t_, {span.from_us})" if plan.request.step_us else str(span.from_us)
        groups = "".join(f"g{place}_ AS {name}, " for place, name in enumerate(_columns(plan)))
        inputs = ", ".join(inputs_of(self.states))
        return placed(
            f"SELECT '{part.place}' AS {_PART}, {span.from_us}::BIGINT AS {_SPAN}, "
            f"make_timestamptz({start}::BIGINT) AS {_WINDOW}, {groups}{inputs} FROM ({{}}) AS r",
            compose(plan, rows, span).rows,
        )

    def reduced(self, rows: pa.Table) -> pa.Table:
        """Partials of rows of `schema`, at least one."""
        return roll_by(rows, keys=self.keys, states=self.states)

    def merged(self, partials: Sequence[pa.Table]) -> pa.Table:
        """Partials with each key once, or a few times where one row could not hold the sums; at least one table."""
        return merge(partials, keys=self.keys, states=self.states)

    def nothing(self) -> pa.Table:
        """Partials of no rows."""
        return self.merged([roll_by(_one_row(self.schema), keys=self.keys, states=self.states).slice(0, 0)])


@dataclass(frozen=True, slots=True)
class PartialSource:
    """A `PlannedSource` over merged partials, which `run` knows as RELATION."""

    run: Run

    def rows(self, plan: Plan) -> Rows:
        return lambda span: Fragment(f"SELECT * FROM {RELATION} WHERE {_SPAN} = ?", (span.from_us,))


def answer(question: Question, run: Run) -> dict[str, Any]:
    """The answer without `version`, from all partials of the question.

    Args:
        run: answers SQL over RELATION.

    Raises:
        RequestInvalid: it asks for events themselves, see `in_blocks`.
    """
    if question.planned is None:
        raise RequestInvalid(f"{question.kind} asks for events themselves", hint="A job answers kinds about measures.")
    moved = tuple(_moved(plan, place) for place, plan in enumerate(question.plans))
    told = question.planned(question.request, moved, PartialSource(run))
    plan = question.plans[0]
    return told | {"tier": plan.tier, "reason": plan.reason} | question.expired


def _columns(plan: Plan) -> tuple[str, ...]:
    return tuple(f"p{place}" for place in range(len(plan.request.group_by)))


def _moved(plan: Plan, place: int) -> Plan:
    """The plan over partials."""
    groups = tuple(
        KeptField(field.name, field.type, field.in_rollups, field.groups, column)
        for field, column in zip(plan.request.group_by, _columns(plan), strict=True)
    )
    kept = Filter(Field(_PART), "eq", (str(place),))
    # Any roll-up: what counts is that its rows are partials, and that ranges are not cut.
    return replace(
        plan, tier="rollup_1m", floors=NO_FLOORS, request=replace(plan.request, group_by=groups, filters=(kept,))
    )


def _one_row(schema: pa.Schema) -> pa.Table:
    zeros = {"counted": [0], _SPAN: [0], _WINDOW: [0]}
    return pa.table([pa.array(zeros.get(one.name, [None]), one.type) for one in schema], schema=schema)
