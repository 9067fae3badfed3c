/** What the hub's HTTP API answers. Fields a hub may leave out are optional: the page must not break on them. */

export type Group = Record<string, string | null>;
export type Point = [string, number | null];

export interface SeriesAnswer {
  measure: string;
  unit?: string;
  group: Group;
  points: Point[];
}

export interface TimeseriesAnswer {
  granularity: string;
  /** Where the answered range begins: the first window may have begun before and hold a part only. */
  from?: string;
  to?: string;
  tier?: string;
  version?: number | string;
  series: SeriesAnswer[];
}

export interface AggregateRow {
  group: Group;
  values: Record<string, number | null>;
  previous?: Record<string, number | null> | null;
}

export interface AggregateAnswer {
  tier?: string;
  version?: number | string;
  rows: AggregateRow[];
}

export interface LedgerCounts {
  accepted?: number;
  committed?: number;
  expired?: number;
  repeats_removed?: number;
  repeated?: number;
  dead_letters?: number;
  in_flight?: number;
  difference?: number;
}

export interface LedgerShard {
  shard: string | number;
  state?: string;
  buffered_events?: number;
  lag_s?: number | null;
  reason?: string;
}

export interface LedgerAnswer {
  tenants?: (LedgerCounts & { tenant_id: string })[];
  total?: LedgerCounts;
  shards?: LedgerShard[];
  freshness_s?: number | null;
}
