"""Blocks of event files, and what Ray Data does with each: read it where there is room, reduce it to partials."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa
import ray
import ray.data

from cluster.lake.duck import open_duck
from cluster.lake.scan import ActiveFile, Snapshot, files
from cluster.tenancy import TenantScope
from models.query.blocks import Part, Reduction
from models.query.seen import owned, read_files
from pipelines.background import step_back

# Of one task, at most: a few seconds of one core, so that progress is seen and a lost task costs little.
BLOCK_BYTES_MAX: Final = 48 * 1024 * 1024
# At least: a task has a price of its own.
BLOCK_BYTES_MIN: Final = 4 * 1024 * 1024
BLOCK_FILES_MAX: Final = 200
# Between the two, so that every core has several and none waits long for the last.
_BLOCKS_PER_CORE: Final = 4
# A hub on two cores has about one of them left; how many run at a time is bounded by the cores of the cluster.
TASK_CPUS: Final = 0.1
# DuckDB streams rows to the reduction, so one task needs little more than the row groups it reads.
_MEMORY_BYTES: Final = 512 * 1024 * 1024
_BATCH_ROWS: Final = 131_072
_PARTIALS_PER_MERGE: Final = 8


@dataclass(frozen=True, slots=True)
class Block:
    """Files that one task reads for one part of a question."""

    part: Part
    paths: tuple[str, ...]
    rows: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Reduced:
    """What a task brings: partials as an Arrow stream, and where it ran."""

    block: int
    node: str
    partials: bytes


def blocks_of(scope: TenantScope, snapshot: Snapshot, parts: Iterable[Part], *, cores: int = 1) -> list[Block]:
    """The files of a snapshot that the parts of a question can find rows in, as blocks for so many cores."""
    needed = [(part, _files(scope, snapshot, part)) for part in parts]
    size_bytes = sum(one.size_bytes for _, found in needed for one in found)
    most = min(BLOCK_BYTES_MAX, max(BLOCK_BYTES_MIN, size_bytes // (cores * _BLOCKS_PER_CORE)))
    return [block for part, found in needed for block in _cut(part, found, most)]


def cluster_cores() -> int:
    """CPUs of the cluster that this process is joined to."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def reduce_block(lake: Path, scope: TenantScope, reduction: Reduction, block: Block) -> pa.Table:
    """Partials of a block's rows that may be seen."""
    question = reduction.select(block.part, owned(scope, read_files(block.paths)))
    gathered = [reduction.nothing()]
    connection = open_duck(lake, threads=1, memory_bytes=_MEMORY_BYTES)
    try:
        reader = connection.sql(question.text, params=list(question.parameters)).to_arrow_reader(_BATCH_ROWS)
        for batch in reader or ():
            if batch.num_rows:
                gathered.append(reduction.reduced(pa.Table.from_batches([batch]).cast(reduction.schema)))
            if len(gathered) > _PARTIALS_PER_MERGE:
                gathered = [reduction.merged(gathered)]
    finally:
        connection.close()
    return reduction.merged(gathered)


def over_cluster(lake: Path, scope: TenantScope, reduction: Reduction, blocks: Sequence[Block]) -> Iterator[Reduced]:
    """The partials of every block as they come; Ray Data spreads its tasks, and what one raises comes through."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    numbered = ray.data.from_items(list(range(len(blocks))), override_num_blocks=len(blocks))
    reduced = numbered.map_batches(
        partial(_reduce, lake=lake, scope=scope, reduction=reduction, blocks=blocks),
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=TASK_CPUS,
        compute=ray.data.TaskPoolStrategy(size=cluster_cores()),
    )
    for row in reduced.iter_rows():
        yield Reduced(int(row["block"]), str(row["node"]), bytes(row["partials"]))


def _reduce(
    batch: pa.Table, *, lake: Path, scope: TenantScope, reduction: Reduction, blocks: Sequence[Block]
) -> pa.Table:
    step_back()
    numbers = batch.column("item").to_pylist()
    written = [stream_of(reduce_block(lake, scope, reduction, blocks[number])) for number in numbers]
    node = ray.get_runtime_context().get_node_id()
    return pa.table({"block": numbers, "node": [node] * len(numbers), "partials": pa.array(written, pa.large_binary())})


def stream_of(table: pa.Table) -> bytes:
    """A table as an Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def table_of(stream: bytes) -> pa.Table:
    """Inverse of `stream_of`."""
    return pa.ipc.open_stream(stream).read_all()


def _files(scope: TenantScope, snapshot: Snapshot, part: Part) -> list[ActiveFile]:
    # Oldest first: neighbours in time share buckets, so their partials merge to few rows.
    return files(scope, snapshot, part.span.from_us, part.span.to_us)[::-1]


def _cut(part: Part, found: Sequence[ActiveFile], bytes_max: int) -> Iterator[Block]:
    held: list[ActiveFile] = []
    for one in found:
        size_bytes = sum(file.size_bytes for file in held)
        if held and (size_bytes + one.size_bytes > bytes_max or len(held) >= BLOCK_FILES_MAX):
            yield _block(part, held)
            held = []
        held.append(one)
    if held:
        yield _block(part, held)


def _block(part: Part, held: Sequence[ActiveFile]) -> Block:
    return Block(
        part,
        tuple(one.path for one in held),
        sum(max(0, one.row_count) for one in held),
        sum(one.size_bytes for one in held),
    )
