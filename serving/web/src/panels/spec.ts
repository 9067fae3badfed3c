/** A panel described as data. The page draws it, a builder can edit it, and the hub can keep it as JSON. */

import type { ChartKindName } from '../charts/registry';

interface Asked {
  measures: string[];
  group_by?: string[];
  /** `field:op:value`, as the API takes them; the module chosen on the page is added. */
  filters?: string[];
}

export interface TimeseriesQuery extends Asked {
  kind: 'timeseries';
  granularity?: string;
  fill?: 'zero';
  /** Also ask for the period of the same length before, drawn behind. */
  compare?: 'previous';
}

export interface AggregateQuery extends Asked {
  kind: 'aggregate';
  order?: string;
  limit?: number;
}

export interface LedgerQuery {
  kind: 'ledger';
}

export type Query = TimeseriesQuery | AggregateQuery | LedgerQuery;

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
  ink?: 'accent' | 'bad';
}

export interface PanelSpec {
  id: string;
  title: string;
  /** One line under the title, where the title alone leaves a question. */
  note?: string;
  kind: ChartKindName;
  query: Query;
  draw?: Drawing;
  /** Columns of twelve on a wide screen. */
  width: number;
  /** Said when there is nothing: what would fill this panel. */
  empty: string;
}
