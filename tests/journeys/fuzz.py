"""`python -m tests.journeys.fuzz --decoder NAME --inputs N`: N spoilt bodies, and what became of them, as JSON lines.

An input is one whole request body: made of rows, spans or documents that a sender could have sent, altered in values
or types, damaged in its bytes, or both, and read by the decoder that the door would call, with all rules of the
contract. Every outcome is judged: an error must be the hub's own, every accepted row must fit the schema, each row
sent must be an event or a dead letter, and every eighth body is read again and must give the same.

Bodies are small, for what a decoder does to a body costs more than what it does to a row: half of those of lines have
one, one in twenty has 20, and one compressed body in 64 holds fifty times the lines of others.

Each input follows from the seed, the decoder's name and its number alone, so a failure is played again with
`--seed S --decoder NAME --first NUMBER --inputs 1`. `tests.journeys.fuzz_campaign` runs all decoders, each in processes
that may die.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import mmap
import random
import resource
import signal
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import zstandard

from cluster.contract.columns import TOKEN_FIELDS
from cluster.contract.decode import decode
from cluster.contract.event import TOKENS_MAX
from cluster.contract.inflate import inflate
from cluster.contract.rows import DecodeContext, Decoded
from cluster.contract.sources.hooks.products import DECODE_HOOK
from cluster.contract.sources.otlp import decode_logs, decode_metrics, decode_traces
from cluster.contract.usage import JSON_VALUE
from cluster.contract.warm import warm
from cluster.errors import HubError
from tests.cluster.contract.bodies import checked
from tests.journeys import columnar_bodies, mutations

CONTEXT: Final = DecodeContext(
    tenant_id="acme",
    region="local",
    received_at_us=mutations.AT_US + 3_600_000_000,
    rows_max=2_000,
    row_bytes_max=256 * 1024,
    inflated_bytes_max=8 * 1024 * 1024,
)
SLOW_S: Final = 1.0
# An input that takes this much of the processor will not end: the process is ended by the kernel.
ENDLESS_S: Final = 10.0
# Address space that an input may need beyond what the process has once it is warm.
_SPACE_BYTES: Final = 3 << 30
# Every so many inputs the body is read twice; more often would halve what a night can do.
_AGAIN_EVERY: Final = 8
_LINES: Final = (*(1,) * 10, *(2,) * 5, 3, 3, 5, 5, 20)
FAILURES_MAX: Final = 20

_MESSAGES: Final = {"traces": mutations.traces, "logs": mutations.logs, "metrics": mutations.metrics}

Make = Callable[[random.Random], bytes]


@dataclass(slots=True)
class Tally:
    """What became of the inputs of one decoder."""

    inputs: int = 0
    bodies_refused: int = 0
    rows_accepted: int = 0
    rows_refused: int = 0
    slowest_ms: float = 0.0
    failures: list[dict[str, Any]] = field(default_factory=list)

    def add(self, other: dict[str, Any]) -> None:
        """Take in a part's figures."""
        for name in ("inputs", "bodies_refused", "rows_accepted", "rows_refused"):
            setattr(self, name, getattr(self, name) + other[name])
        self.slowest_ms = max(self.slowest_ms, other["slowest_ms"])
        self.failures += other["failures"]


@cache
def _documents(door: str) -> tuple[Any, ...]:
    """JSON documents of a door, as they should be."""
    if door == "events":
        return tuple(random.Random(number).sample(_rows(), (1, 1, 1, 2, 3)[number % 5]) for number in range(40))
    if door.startswith("hooks/"):
        return tuple(mutations.corpus_bodies(door))
    if door == "traces":
        return tuple(mutations.as_json(mutations.traces(random.Random(number))) for number in range(40))
    return (mutations.as_json(_MESSAGES[door]()),)


@cache
def _samples(door: str) -> tuple[bytes, ...]:
    return tuple(map(mutations.written, _documents(door)))


@cache
def _protobuf(door: str) -> bytes:
    body: bytes = _MESSAGES[door]().SerializeToString()
    return body


def _json_body(door: str, choose: random.Random) -> bytes:
    document = choose.choice(_documents(door))
    for _ in range(choose.choice([1, 1, 1, 2, 4])):
        document = mutations.altered(document, choose)
    body = mutations.written(document)
    return mutations.damaged(body, _samples(door), choose) if choose.random() < 0.5 else body


def _lines(choose: random.Random) -> bytes:
    rows = choose.choices(_rows(), k=choose.choice(_LINES))
    odd = choose.randrange(len(rows))
    all_odd = choose.random() < 0.3
    text = b"\n".join(
        mutations.written(mutations.altered(row, choose) if all_odd or number == odd else row)
        for number, row in enumerate(rows)
    )
    return mutations.damaged(text, _samples("events"), choose) if choose.random() < 0.6 else text


@cache
def _rows() -> tuple[dict[str, Any], ...]:
    return tuple(mutations.rows())


def _wire(door: str, choose: random.Random) -> bytes:
    others = (_protobuf("traces"), _protobuf("metrics"))
    body: bytes = mutations.traces(choose).SerializeToString() if door == "traces" else _protobuf(door)
    if choose.random() < 0.2:
        return mutations.damaged(body, others, choose)
    for _ in range(choose.choice([1, 1, 2, 4, 8])):
        body = mutations.reframed(body, others, choose)
    return body


@cache
def _made(make: Make, number: int) -> bytes:
    return make(random.Random(number))


def _columnar(make: Make, choose: random.Random) -> bytes:
    # Writing a file takes longer than reading it: most inputs spoil one of a thousand that are kept.
    if choose.random() < 0.1:
        return make(choose)
    body = _made(make, choose.randrange(1_000))
    return mutations.damaged(body, (body,), choose)


def _compressed(encoding: str, choose: random.Random) -> bytes:
    plain = _lines(choose)
    if choose.random() < 1 / 64:
        plain *= 50
    compress = {"gzip": partial(gzip.compress, mtime=0), "zstd": zstandard.compress, "deflate": zlib.compress}[encoding]
    body: bytes = compress(plain)
    body *= choose.choice([1, 1, 1, 2])
    return mutations.damaged(body, (body, plain), choose)


def _through_inflate(encoding: str, body: bytes) -> Decoded:
    plain = inflate(body, encoding, sent_max=1 << 22, inflated_max=1 << 22, ratio_max=200)
    return decode(plain, content_type="application/x-ndjson", context=CONTEXT)


_OTLP: Final = {"traces": decode_traces, "logs": decode_logs, "metrics": decode_metrics}
# Name -> how its inputs are made, and what reads them.
DECODERS: Final[dict[str, tuple[Make, Callable[[bytes], Decoded]]]] = {
    "ndjson": (_lines, partial(decode, content_type="application/x-ndjson", context=CONTEXT)),
    "json": (partial(_json_body, "events"), partial(decode, content_type="application/json", context=CONTEXT)),
    "arrow": (
        partial(_columnar, columnar_bodies.arrow_body),
        partial(decode, content_type="application/vnd.apache.arrow.stream", context=CONTEXT),
    ),
    "parquet": (
        partial(_columnar, columnar_bodies.parquet_body),
        partial(decode, content_type="application/vnd.apache.parquet", context=CONTEXT),
    ),
    **{
        f"otlp-{door}-protobuf": (
            partial(_wire, door),
            lambda body, read=read: read(body, "application/x-protobuf", CONTEXT),
        )
        for door, read in _OTLP.items()
    },
    **{
        f"otlp-{door}-json": (
            partial(_json_body, door),
            lambda body, read=read: read(body, "application/json", CONTEXT),
        )
        for door, read in _OTLP.items()
    },
    **{
        f"hook-{product}": (
            partial(_json_body, f"hooks/{product}"),
            lambda body, read=read: read(body, {"content-type": "application/json"}, CONTEXT),
        )
        for product, read in DECODE_HOOK.items()
    },
    **{
        f"{encoding}": (partial(_compressed, encoding), partial(_through_inflate, encoding))
        for encoding in ("gzip", "zstd", "deflate")
    },
}


def body_of(seed: int, name: str, number: int) -> bytes:
    """Input `number` of a decoder; the same for the same seed."""
    return DECODERS[name][0](random.Random(f"{seed}:{name}:{number}"))


def judge(read: Callable[[bytes], Decoded], body: bytes, *, twice: bool) -> Decoded | None:
    """What a decoder makes of a body, None where it refuses the whole of it.

    Args:
        twice: read it again, as if it were sent again.

    Raises:
        Exception: whatever is against the laws: an error that is not the hub's own, a row that does not fit the schema,
            counts that do not add up, ids that differ the second time.
    """
    try:
        decoded = checked(read(body))
    except HubError as error:
        assert error.code != HubError.code and error.message
        return None
    for name in ("attributes", "payload"):
        texts = decoded.events.column(name).drop_null().to_pylist()
        assert all(isinstance(JSON_VALUE.decode(text), dict) for text in texts), f"{name} is no object"
    for name in TOKEN_FIELDS:
        column = decoded.events.column(name)
        if column.null_count < len(column):
            counts = column.drop_null().to_numpy()
            assert counts.min() >= 0 and counts.max() <= TOKENS_MAX, name
    again = read(body) if twice else decoded
    assert again.events.equals(decoded.events), "the body sent again gives other events"
    assert again.dead_letters.equals(decoded.dead_letters), "the body sent again gives other dead letters"
    letters = decoded.dead_letters.column("dead_letter_id").to_pylist()
    assert len(set(letters)) == len(letters), "two dead letters have one id"
    return decoded


def run(name: str, *, seed: int, numbers: range, at: Callable[[int], object] = lambda number: None) -> Tally:
    """Feed a decoder.

    Args:
        at: told the number of each input before it is read.
    """
    _warm_once()
    tally = Tally()
    read = DECODERS[name][1]
    for number in numbers:
        at(number)
        body = body_of(seed, name, number)
        # Of the processor: what else runs on the machine is no fault of the decoder.
        began_s = time.process_time()
        try:
            decoded = judge(read, body, twice=number % _AGAIN_EVERY == 0)
        except Exception as error:  # every other kind of outcome is what is looked for
            tally.failures.append(failure(name, (seed, number), f"{type(error).__name__}: {error}", body))
            decoded = None
        took_s = time.process_time() - began_s
        if took_s > SLOW_S:
            tally.failures.append(failure(name, (seed, number), f"took {took_s:.1f} s", body))
        tally.inputs += 1
        tally.slowest_ms = max(tally.slowest_ms, took_s * 1_000)
        tally.bodies_refused += decoded is None
        if decoded is not None:
            tally.rows_accepted += decoded.events.num_rows
            tally.rows_refused += decoded.dead_letters.num_rows
        if len(tally.failures) >= FAILURES_MAX:
            break
    return tally


@cache
def _warm_once() -> None:
    """Else the first input would be slow by what is compiled for it."""
    warm()


def failure(name: str, which: tuple[int, int], what: str, body: bytes) -> dict[str, Any]:
    seed, number = which
    return {
        "decoder": name,
        "input": number,
        "what": what[:500],
        "replay": f"python -m tests.journeys.fuzz --seed {seed} --decoder {name} --first {number} --inputs 1",
        "body": base64.b64encode(body[:4_096]).decode(),
    }


def _watched(place: Path) -> Callable[[int], object]:
    """Keep the number of the input in a file that outlives the process, and end the process where one is endless."""
    _warm_once()
    with Path("/proc/self/statm").open() as told:
        space = int(told.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (space + _SPACE_BYTES, resource.RLIM_INFINITY))
    with place.open("r+b") as file:
        kept = mmap.mmap(file.fileno(), 8)

    def at(number: int) -> None:
        kept[:8] = number.to_bytes(8, "little")
        # Of the processor, as the laws say; SIGPROF has no handler, so that a loop in compiled code ends as well.
        signal.setitimer(signal.ITIMER_PROF, ENDLESS_S)

    return at


def main(arguments: Sequence[str] | None = None) -> int:
    """0 where no input was against the laws."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--inputs", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--every", type=int, help="a line of figures after so many inputs; without it one at the end")
    parser.add_argument("--decoder", choices=DECODERS, required=True)
    parser.add_argument("--at", type=Path, help="file of eight bytes that tells which input is being read")
    given = parser.parse_args(arguments)
    numbers = range(given.first, given.first + given.inputs)
    at = _watched(given.at) if given.at else lambda number: None
    every = given.every or given.inputs
    failures = 0
    for start in range(0, len(numbers), every):
        tally = run(given.decoder, seed=given.seed, numbers=numbers[start : start + every], at=at)
        print(json.dumps(asdict(tally)), flush=True)
        failures += len(tally.failures)
        if failures >= FAILURES_MAX:
            break
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
