"""Settings: one frozen object, read from HUB_* once at process start. Unknown keys are refused."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from cluster.errors import SettingsInvalid

_PREFIX = "HUB_"
# Read by clients and by the bootstrap, not by the hub itself.
_FOREIGN = frozenset({"HUB_URL", "HUB_API_KEY", "HUB_TORCH", "HUB_JOURNAL_DIR"})

_ABOVE_0 = (
    *("seal_bytes", "seal_age_s", "seen_limit", "body_bytes_max", "refresh_s", "query_timeout_s"),
    *("compact_rows_max", "vacuum_age_hours", "quota_burst_s", "dead_letter_window_s"),
    *("sql_workers", "sql_memory_bytes", "sql_timeout_s", "sql_queue", "sql_rows_max", "sql_answer_bytes_max"),
    *("query_jobs", "query_jobs_tenant", "query_job_timeout_s", "answer_days", "scorer_replicas"),
)
# Hold passwords: handed on to the hub's own processes, never written down or shown.
SECRET_VARIABLES = frozenset({"HUB_METADATA_URL", "HUB_MLFLOW_WEBHOOK_SECRET"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every knob of the hub; the environment variable is `HUB_` and the name in capitals (docs/operations.md)."""

    # Folder of everything the hub keeps: lake, journals, metadata, MLflow, logs.
    data: Path = Path(".llmhub")
    # Name of the region this cluster serves; part of every table path.
    region: str = "local"
    # Address the HTTP and gRPC doors listen on.
    host: str = "127.0.0.1"
    port: int = 8000
    otlp_port: int = 4317
    mlflow_port: int = 5000
    # Shard actors; 0 means by cores: one for each two, at least one.
    shards: int = 0
    # What an acknowledgement means: "journal" = fsynced in the shard's journal, "commit" = in the Delta table.
    ack: str = "journal"
    # Ray actor namespace of the hub.
    namespace: str = "llmhub"
    # A shard seals its buffer at this size or age, whichever comes first.
    seal_bytes: int = 96 * 1024 * 1024
    seal_age_s: float = 1.0
    # Rows wait in a shard (buffered, sealing, or sealed and uncommitted) up to this size; beyond it senders get 429.
    shard_buffer_bytes: int = 512 * 1024 * 1024
    # A shard takes no batch when its disk would have less left: what is taken must also be staged and committed.
    disk_reserve_bytes: int = 64 * 1024 * 1024
    # Calls that may wait at one shard.
    shard_pending_calls: int = 256
    # Event ids each shard remembers at least; the window in which a repeat is recognised.
    seen_limit: int = 2_000_000
    # Journal segments stay this long after their rows were committed and re-read.
    journal_grace_s: float = 60.0
    # The committer gathers seals of many shards for this long before one Delta commit.
    commit_linger_s: float = 0.1
    # Minute roll-ups are rolled into hours and days this often; questions see newer ones all the same.
    rollover_s: float = 30.0
    # Repeats that came after their ids were forgotten are looked for, and taken out, this often; 0 is never.
    repeats_s: float = 60.0
    # A partition with this many small files is compacted; files over the target are left alone.
    compact_files: int = 24
    compact_target_bytes: int = 128 * 1024 * 1024
    # Rows merged at once; bounds the memory of one compaction to a few hundred MB.
    compact_rows_max: int = 1_000_000
    # Files that left a table, or never became part of it, stay this long for readers of older versions.
    vacuum_age_hours: int = 168
    # Days that rows stay, 0 for ever: events, dead letters and minutes; hours; days. A tenant may have its own.
    hot_days: int = 30
    warm_days: int = 90
    cold_days: int = 365
    # Body limits: as sent, inflated, and the inflation ratio from which a body is a bomb.
    body_bytes_max: int = 32 * 1024 * 1024
    inflated_bytes_max: int = 128 * 1024 * 1024
    inflate_ratio_max: int = 200
    rows_per_request_max: int = 200_000
    # Longest single NDJSON line or JSON row.
    row_bytes_max: int = 2 * 1024 * 1024
    # HTTP replicas of the ingress; 0 means by cores.
    ingress_replicas: int = 0
    query_replicas: int = 1
    # A question is cancelled after this time.
    query_timeout_s: float = 20.0
    # Threads and memory of one query replica.
    query_threads: int = 2
    query_memory_bytes: int = 2 * 1024 * 1024 * 1024
    # The query engine looks for new table versions this often.
    refresh_s: float = 0.1
    # Answers with more groups than this name the largest and fold the rest into one.
    groups_max: int = 10_000
    # Questions that may wait at one query replica before 429.
    query_queue: int = 256
    # Bytes of event files that one node scans for a question; one that needs more runs as a job. 0: none does.
    query_scan_bytes: int = 2 * 1024 * 1024 * 1024
    # Such jobs that may be queued or running, of all tenants and of one, before 429.
    query_jobs: int = 4
    query_jobs_tenant: int = 2
    # A job is cancelled after this time.
    query_job_timeout_s: float = 3600.0
    # Days that the answer of a job is kept.
    answer_days: int = 7
    # Processes for SQL of one query replica, started with the first statement, and the memory of each.
    sql_workers: int = 2
    sql_memory_bytes: int = 512 * 1024 * 1024
    # A statement is cancelled after this time.
    sql_timeout_s: float = 20.0
    # Statements of one tenant that may wait or run at one query replica before 429.
    sql_queue: int = 8
    # Most rows and bytes of one answer to SQL, which travels in parts.
    sql_rows_max: int = 10_000_000
    sql_answer_bytes_max: int = 1024 * 1024 * 1024
    # 1: every sealed minute is scored and what is found is kept; 0: nothing is looked for.
    detector: int = 1
    # Champions are compared with the last day, and trained again where they no longer fit, this often; 0 is never.
    retrain_hours: float = 24.0
    # Replicas that score windows with trained models, and requests that may wait at one before 429.
    scorer_replicas: int = 1
    scorer_queue: int = 256
    # Requests that may be open at one ingress replica, and wait for it, before 429.
    ingress_ongoing: int = 256
    # What a tenant may send and ask in a second, over all replicas, unless it has values of its own; 0 is no limit.
    quota_events_per_s: int = 0
    quota_bytes_per_s: int = 0
    quota_questions_per_s: int = 0
    # Seconds of its rate that a tenant may use at once.
    quota_burst_s: float = 10.0
    # Part of a door replica's open requests and body memory that one tenant may hold, above 0 to 1.
    tenant_share: float = 0.5
    # A tenant whose rows are refused more often than this, 0 to 1, over the window raises an alarm.
    dead_letter_share_max: float = 0.1
    dead_letter_window_s: float = 300.0
    # A key looked up in the metadata store is trusted this long; revocation takes effect within it.
    key_cache_s: float = 2.0
    # Shared memory of the local Ray node; actors and doors hardly use it, jobs over many rows do.
    object_store_bytes: int = 256 * 1024 * 1024
    # Metadata database URL; empty means SQLite under `data`.
    metadata_url: str = ""
    # Secret with which MLflow signs its webhooks; empty means that signatures are not looked at.
    mlflow_webhook_secret: str = field(default="", repr=False)
    log_level: str = "info"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Settings from HUB_* variables.

        Raises:
            SettingsInvalid: a HUB_* variable is unknown, or its value is not of the field's type or range.
        """
        env = os.environ if environment is None else environment
        known = {_PREFIX + f.name.upper(): f for f in fields(cls)}
        values: dict[str, object] = {}
        for key, text in env.items():
            if not key.startswith(_PREFIX) or key in _FOREIGN:
                continue
            if key not in known:
                raise SettingsInvalid(f"{key} is not a setting", hint="docs/operations.md lists every HUB_* variable.")
            values[known[key].name] = _parse(key, str(known[key].type), text)
        settings = cls(**values)  # type: ignore[arg-type]
        settings.check()
        return settings

    def check(self) -> None:
        """Refuse values that contradict each other or their range."""
        if self.ack not in ("journal", "commit"):
            raise SettingsInvalid(f"HUB_ACK={self.ack!r} must be 'journal' or 'commit'")
        for name in _ABOVE_0:
            if getattr(self, name) <= 0:
                raise SettingsInvalid(f"HUB_{name.upper()} must be above 0")
        for name in ("quota_events_per_s", "quota_bytes_per_s", "quota_questions_per_s", "query_scan_bytes"):
            if getattr(self, name) < 0:
                raise SettingsInvalid(f"HUB_{name.upper()} must be 0, for no limit, or above")
        for name in ("tenant_share", "dead_letter_share_max"):
            if not 0 < getattr(self, name) <= 1:
                raise SettingsInvalid(f"HUB_{name.upper()} must be above 0 and at most 1")
        ages = [getattr(self, name) or 10**6 for name in ("hot_days", "warm_days", "cold_days")]
        if min(ages) < 0 or ages != sorted(ages):
            raise SettingsInvalid("HUB_HOT_DAYS, HUB_WARM_DAYS and HUB_COLD_DAYS must be 0 or above and must not fall")
        if self.shard_buffer_bytes < 2 * self.seal_bytes:
            raise SettingsInvalid(
                "HUB_SHARD_BUFFER_BYTES must be at least twice HUB_SEAL_BYTES, or a seal stops intake"
            )

    def environment(self) -> dict[str, str]:
        """The HUB_* variables that rebuild these settings in another process."""
        return {_PREFIX + f.name.upper(): str(getattr(self, f.name)) for f in fields(self)}

    def shard_count(self, cores: int) -> int:
        """Shards of a cluster with `cores` CPUs."""
        return self.shards or max(1, cores // 2)

    @property
    def lake(self) -> Path:
        """Folder of the region's Delta tables."""
        return self.data / "lake" / self.region

    @property
    def journals(self) -> Path:
        """Folder of this node's shard journals."""
        return self.data / "journal" / self.region

    @property
    def metadata(self) -> str:
        """SQLAlchemy URL of the metadata store."""
        return self.metadata_url or f"sqlite:///{self.data / 'metadata.db'}"


def _parse(key: str, kind: str, text: str) -> object:
    try:
        if kind == "int":
            return int(text)
        if kind == "float":
            return float(text)
        if kind == "Path":
            return Path(text)
    except ValueError as error:
        raise SettingsInvalid(f"{key}={text!r} is not of type {kind}") from error
    return text
