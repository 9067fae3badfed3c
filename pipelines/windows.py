"""Training windows, with Ray Data: roll-ups of one tenant, or Parquet files of series, as aligned rows by entity.

An entity is a choice of dimensions (service, provider, model and operation unless told otherwise). Every entity has
the same rows, one a minute; what nobody told of is missing there, and `known` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from cluster.contract.columns import ROLLUP_SCHEMA
from cluster.errors import NotFound
from cluster.lake.scan import TableReader, files
from cluster.lake.tables import MINUTES, PARTITION_COLUMNS, TABLES
from cluster.tenancy import TenantScope
from models.aggregate.rollup import merge
from models.anomaly.features import ENTITY_DIMENSIONS, STEP_S, entity_series
from models.anomaly.refusals import NotEnoughData, SeriesInvalid
from models.anomaly.series import Series

# Rows of one window: short enough to be handed around, long enough for any patch.
WINDOW_ROWS: Final = 1_440
# A hub on two cores has about one of them left for jobs.
TASK_CPUS: Final = 0.1
_PARTIALS_PER_MERGE: Final = 64

# One row is one window of one entity; lists are flat, row after row.
WINDOW_SCHEMA: Final = pa.schema(
    [
        pa.field("entity", pa.string(), nullable=False),
        pa.field("start_us", pa.int64(), nullable=False),
        pa.field("step_s", pa.int64(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("features", pa.list_(pa.string()), nullable=False),
        # 0 where not known.
        pa.field("values", pa.list_(pa.float32()), nullable=False),
        pa.field("known", pa.list_(pa.bool_()), nullable=False),
    ]
)

_HEAD: Final = ("entity", "start_us", "step_s", "rows", "features")


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """Series by entity, and what they were read from.

    Attributes:
        source: as the model card tells it: table and version, or the folder.
    """

    series: dict[str, Series]
    source: dict[str, str]


def from_rollups(
    lake: Path,
    scope: TenantScope,
    span_us: tuple[int, int],
    dimensions: Sequence[str] = ENTITY_DIMENSIONS,
    *,
    step_s: int = STEP_S,
) -> Gathered:
    """Series of all entities of the scope's tenant over [from, to), read and merged by the cluster.

    They begin with the first minute that was told of: a tenant of one day is not thirteen days of nothing and a day.

    Args:
        step_s: of a row, whole minutes; the range is cut to whole rows.

    Raises:
        NotEnoughData: no row lies in the range. SeriesInvalid: an unknown dimension, or too many entities.
    """
    step_us = step_s * 1_000_000
    from_us, to_us = (at // step_us * step_us for at in span_us)
    snapshot = TableReader(lake, MINUTES).refresh()
    paths = [one.path for one in files(scope, snapshot, from_us, to_us)]
    if not paths:
        raise NotEnoughData("no calls in this range", hint="Widen the range, or send events first.")
    schema = TABLES[MINUTES].schema
    columns = [name for name in schema.names if name in ROLLUP_SCHEMA.names]
    # Given rather than found: Ray would take it from the first file.
    told = pa.schema([*schema, *(pa.field(name, pa.string()) for name in PARTITION_COLUMNS)])
    rows = ray.data.read_parquet(paths, schema=told, columns=columns, num_cpus=TASK_CPUS)
    keys = ("window_start", *dimensions)
    merged = rows.map_batches(
        partial(_merged, keys=keys, span_us=(from_us, to_us)), batch_format="pyarrow", num_cpus=TASK_CPUS
    )
    gathered = [_nothing(keys)]
    for part in merged.iter_batches(batch_format="pyarrow", batch_size=None):
        gathered.append(part)
        if len(gathered) > _PARTIALS_PER_MERGE:
            gathered = [merge(gathered, keys=keys)]
    together = merge(gathered, keys=keys)
    first_us = pc.min(together.column("window_start").cast(pa.int64())).as_py()
    from_us = max(from_us, (first_us or from_us) // step_us * step_us)
    found = entity_series(together, from_us=from_us, to_us=to_us, dimensions=dimensions, step_s=step_s)
    source = {"table": MINUTES, "version": str(snapshot.version), "files": str(len(paths))}
    return Gathered({str(entity): one for entity, one in found.items()}, source)


def _merged(batch: pa.Table, *, keys: Sequence[str], span_us: tuple[int, int]) -> pa.Table:
    rows = batch.select(ROLLUP_SCHEMA.names).cast(ROLLUP_SCHEMA)
    starts = rows.column("window_start").cast(pa.int64()).to_numpy()
    inside = (starts >= span_us[0]) & (starts < span_us[1])
    return merge([rows.filter(pa.array(inside))], keys=keys)


def _nothing(keys: Sequence[str]) -> pa.Table:
    return merge([ROLLUP_SCHEMA.empty_table()], keys=keys)


def from_files(folder: Path, *, entities: Sequence[str] = (), step_s: int = 60) -> Gathered:
    """Series of `<entity>_train.parquet` files, a column a feature; `label` is left out.

    Raises:
        NotFound: no such file. SeriesInvalid: a column is no number.
    """
    paths = {path.name.removesuffix("_train.parquet"): path for path in sorted(folder.glob("*_train.parquet"))}
    chosen = {name: paths[name] for name in entities or paths if name in paths}
    if not chosen or len(chosen) < len(entities):
        raise NotFound(f"{folder} lacks some of the files of {', '.join(entities) or 'any entity'}")
    series = {}
    for name, path in chosen.items():
        table = ray.data.read_parquet(str(path), num_cpus=TASK_CPUS)
        batches = list(table.iter_batches(batch_format="numpy", batch_size=None))
        features = tuple(column for column in batches[0] if column != "label")
        try:
            columns = [np.concatenate([batch[one] for batch in batches]).astype(np.float32) for one in features]
        except (TypeError, ValueError) as error:
            raise SeriesInvalid(f"{path.name} has a column that is no number") from error
        series[name] = Series(np.stack(columns, axis=1), features, step_s, 0)
    return Gathered(series, {"folder": str(folder), "entities": ",".join(chosen)})


def dataset(series: Mapping[str, Series]) -> Any:
    """The series as a Ray dataset of WINDOW_SCHEMA rows."""
    rows = []
    for name, one in series.items():
        for start in range(0, one.rows, WINDOW_ROWS):
            part = one.part(start, start + WINDOW_ROWS)
            rows.append(
                {
                    "entity": name,
                    "start_us": part.start_us,
                    "step_s": part.step_s,
                    "rows": part.rows,
                    "features": list(part.features),
                    "values": np.nan_to_num(part.values).ravel(),
                    "known": ~np.isnan(part.values).ravel(),
                }
            )
    return ray.data.from_arrow(pa.Table.from_pylist(rows, WINDOW_SCHEMA))


def series_of(batches: Iterable[pa.Table]) -> dict[str, Series]:
    """Inverse of `dataset`, from its batches in any order."""
    parts: dict[str, list[tuple[int, Series]]] = {}
    for batch in batches:
        for at in range(batch.num_rows):
            name, start_us, step_s, rows, features = (batch.column(column)[at].as_py() for column in _HEAD)
            values = batch.column("values")[at].values.to_numpy().astype(np.float32)
            known = batch.column("known")[at].values.to_numpy(zero_copy_only=False)
            filled = np.where(known, values, np.float32(np.nan)).reshape(rows, len(features))
            parts.setdefault(name, []).append((start_us, Series(filled, tuple(features), step_s, start_us)))
    return {name: _joined([one for _, one in sorted(found, key=lambda part: part[0])]) for name, found in parts.items()}


def _joined(parts: Sequence[Series]) -> Series:
    return parts[0].with_values(np.concatenate([one.values for one in parts]))
