/** A board described as data. The page draws it, the builder edits it, and the hub keeps it as JSON. */

import type { ChartKindName } from '../charts/registry';

/** Where a panel stands: columns of twelve and rows of ROW_PX, both from 0. */
export interface Place {
  x: number;
  y: number;
  w: number;
  h: number;
}

/** What every question about measures may have; the names are those of the API. */
interface Asked {
  measure: string[];
  group_by?: string[];
  /** `field:op:value`; what is chosen on the page is added. */
  filter?: string[];
  /** Calculated measures, NAME=EXPRESSION. */
  calculate?: string[];
  /** In place of the range of the page: relative or RFC 3339. */
  from?: string;
  to?: string;
}

export interface TimeseriesQuery extends Asked {
  kind: 'timeseries';
  granularity?: string;
  fill?: 'zero' | 'none' | 'null' | 'previous';
  time_zone?: string;
  /** Also ask for the period of the same length before, drawn behind. */
  compare?: 'previous';
}

export interface AggregateQuery extends Asked {
  kind: 'aggregate';
  order?: string[];
  having?: string[];
  limit?: number;
  /** `previous` or a time back such as `-7d`. */
  compare?: string;
}

/** Any other kind of POST /api/v1/query with its parameters by name. */
export interface OtherQuery {
  kind:
    | 'percentile' | 'histogram' | 'heatmap' | 'top' | 'ratio' | 'compare' | 'search' | 'trace' | 'session'
    | 'cost_allocation' | 'cohort' | 'funnel' | 'distinct' | 'as_of';
  filter?: string[];
  from?: string;
  to?: string;
  [parameter: string]: unknown;
}

/** POST /api/v1/sql. The text may name `$from` and `$to`, the ends of the range, and `$FIELD`, what is chosen on the page. */
export interface SqlQuery {
  kind: 'sql';
  sql: string;
  limit?: number;
  /** In place of the range of the page. */
  from?: string;
  to?: string;
}

/** A document of the hub other than an answer to a question; only shipped boards have such panels. */
export interface DocumentQuery {
  kind: 'ledger' | 'shards' | 'tenants' | 'readiness' | 'traces' | 'anomalies' | 'detectors';
  filter?: string[];
  from?: string;
  limit?: number;
}

/** Costs of all tenants whose figures the reader's key may see; of shipped boards alone as well. */
export interface TenantCostsQuery {
  kind: 'tenant_costs';
  filter?: string[];
  from?: string;
  limit?: number;
}

export type Query = TimeseriesQuery | AggregateQuery | OtherQuery | SqlQuery | DocumentQuery | TenantCostsQuery;

export interface Drawing {
  /** Groups drawn on their own; the smaller rest is folded into "Other" where the measure may be added. */
  series?: number;
  /** Measures drawn as a mark on the bar of the first one. */
  marks?: string[];
  /** Measures asked for but neither drawn nor printed (to rank by, for instance). */
  hide?: string[];
  /** One row of several measures becomes one row for each. */
  turn?: boolean;
  /** Titles of measures that read differently here. */
  titles?: Record<string, string>;
  /** Fields of events printed by a table of a search. */
  fields?: string[];
  ink?: 'accent' | 'bad';
}

/** Where a click on a group leads: the page, with the group as its filter. Without it the click filters this board. */
export interface DrillDown {
  page: string;
}

export interface PanelSpec {
  id: string;
  title: string;
  /** One line under the title, where the title alone leaves a question. */
  note?: string;
  kind: ChartKindName;
  query: Query;
  draw?: Drawing;
  drill?: DrillDown;
  place: Place;
  /** Said when there is nothing: what would fill this panel. */
  empty: string;
}

/** A choice above the board that filters every panel by a field. */
export interface Variable {
  field: string;
  title: string;
}

export interface KpiSpec {
  measure: string;
  title: string;
  /** Which way is worse; amounts that merely grow are neither. */
  worse: 'more' | 'less' | 'neither';
}

export interface BoardSpec {
  title: string;
  description?: string;
  variables?: Variable[];
  /** Taken when the address names none: an id of RANGES, and one of REFRESHES. */
  range?: string;
  refresh?: string;
  /** Key figures above the panels. */
  kpis?: KpiSpec[];
  /** Marks what the registry changed (versions, aliases, prices) on charts over time. */
  annotations?: boolean;
  panels: PanelSpec[];
}

export const COLUMNS = 12;
export const ROW_PX = 44;
