"""Files of known shape: what each column means as a field of an event. A table; to know one more shape, add a row.

A preset applies when a file has exactly its columns, and only to fields that no `--map` or `--set` names.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Preset:
    """Field -> column or SQL expression, and field -> constant, for files with these columns.

    Attributes:
        needs_start: its times are seconds after a start that `--start` must give.
    """

    name: str
    columns: frozenset[str]
    maps: dict[str, str]
    sets: dict[str, str] = field(default_factory=dict)
    needs_start: bool = False


_REQUEST: Final = {"module": "gateway", "kind": "gateway.request", "operation": "chat"}
_METRIC: Final = {"module": "observatory", "kind": "observatory.metric"}
_USAGE: Final = "extracted_json::JSON->'$[0].usage'"


def _usage(name: str) -> str:
    return f"CAST({_USAGE}->>'{name}' AS BIGINT)"


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


PRESETS: Final = (
    Preset(
        "arrivals with a clock",
        _names("request_no ts arrival_s input_tokens output_tokens"),
        {"occurred_at": "ts"},
        {**_REQUEST, "status": "ok"},
    ),
    Preset(
        "arrivals with prefix blocks",
        _names("request_no arrival_s input_tokens output_tokens prefix_block_ids"),
        {"occurred_at": "arrival_s"},
        {**_REQUEST, "status": "ok"},
        needs_start=True,
    ),
    Preset(
        "provider measurements",
        _names(
            "provider model model_size run_ts request_no ttft_s inter_token_latency_s end_to_end_latency_s"
            " output_tokens_per_s input_tokens output_tokens error_code error_msg"
        ),
        {
            "occurred_at": "run_ts",
            # -1 is a call that failed without an answer; -100 was answered, with fewer tokens than were asked for.
            "status": "CASE error_code WHEN '429' THEN 'rate_limited' WHEN '-1' THEN 'error' ELSE 'ok' END",
            # A failed call has no measurement: the file says 0 there.
            "latency_ms": "CASE WHEN end_to_end_latency_s > 0 THEN end_to_end_latency_s * 1000 END",
            "ttft_ms": "CASE WHEN ttft_s > 0 THEN ttft_s * 1000 END",
        },
        _REQUEST,
    ),
    Preset(
        "recorded usage objects",
        _names("record_no source_file model usage_body_json extracted_json"),
        {
            "occurred_at": "record_no",
            **{name: _usage(name) for name in ("input_tokens", "output_tokens", "cache_read_tokens")},
            "cache_write_tokens": _usage("cache_write_tokens"),
            "reasoning_tokens": _usage("output_reasoning_tokens"),
            # The first reading of the usage object that knows a price.
            "cost_usd": (
                "list_sum(list_transform([list_filter(extracted_json::JSON->>'$[*].extractors[*].input_price',"
                " lambda p: p IS NOT NULL)[1], list_filter(extracted_json::JSON->>'$[*].extractors[*].output_price',"
                " lambda p: p IS NOT NULL)[1]], lambda p: CAST(p AS DECIMAL(18,9))))"
            ),
            "payload.body": "usage_body_json::JSON",
            "payload.readings": "extracted_json::JSON",
        },
        {**_REQUEST, "status": "ok"},
        needs_start=True,
    ),
    Preset(
        "client rates by window",
        _names(
            "category model client_id window_start_s requests_per_s interarrival_cv interarrival_dist"
            " dist_shape dist_scale"
        ),
        {"occurred_at": "window_start_s", "payload.value": "requests_per_s"},
        {**_METRIC, "payload.name": "client.requests_per_s", "payload.type": "gauge", "payload.unit": "{request}/s"},
        needs_start=True,
    ),
    Preset(
        "client tokens by window",
        _names("category model client_id window_start_s field mean p50 p90 p99 min max n_support"),
        {"occurred_at": "window_start_s", "payload.name": "field", "payload.value": "mean"},
        {**_METRIC, "payload.type": "gauge"},
        needs_start=True,
    ),
    Preset(
        "requests and tokens by day",
        _names("day requests tokens"),
        {"occurred_at": "day * 86400", "payload.value": "requests", "payload.tokens": "tokens"},
        {**_METRIC, "payload.name": "requests", "payload.type": "counter"},
        needs_start=True,
    ),
    Preset(
        "tokens by minute",
        _names("minute tokens_per_s"),
        {"occurred_at": "minute * 60", "payload.value": "tokens_per_s"},
        {**_METRIC, "payload.name": "tokens_per_s", "payload.type": "gauge", "payload.unit": "{token}/s"},
        needs_start=True,
    ),
)


def preset_for(columns: list[str]) -> Preset | None:
    """The preset of a file with these columns."""
    named = frozenset(columns)
    return next((preset for preset in PRESETS if preset.columns == named), None)
