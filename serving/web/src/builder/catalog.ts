/** What may be asked, as the hub tells it. */

import { CHARTS, type ChartKind, type ChartKindName } from '../charts/registry';
import { ask } from '../lib/client';
import type { PanelSpec, Query } from '../panels/spec';

export interface Catalog {
  measures: { name: string; unit: string; meaning: string }[];
  dimensions: { name: string }[];
  fields: { name: string; type: string }[];
  operators: string[];
  granularities: string[];
}

export const catalog = (): Promise<Catalog> => ask('/api/v1/catalog');

/** Groups of the form: the two commonest kinds of question have fields of their own, all others are JSON. */
export type Form = 'timeseries' | 'aggregate' | 'sql' | 'other';

export const FORMS: Record<Form, string> = { timeseries: 'Measures over time', aggregate: 'Measures by group', sql: 'SQL', other: 'Any question, as JSON' };

export const formOf = (query: Query): Form => (query.kind === 'timeseries' || query.kind === 'aggregate' || query.kind === 'sql' ? query.kind : 'other');

const FIRST: Record<Form, Query> = {
  timeseries: { kind: 'timeseries', measure: ['request_count'], fill: 'zero' },
  aggregate: { kind: 'aggregate', measure: ['request_count'], group_by: ['model'], order: ['-request_count'], limit: 10 },
  sql: { kind: 'sql', sql: 'SELECT model, count(*) AS requests\nFROM events\nWHERE occurred_at >= $from AND occurred_at < $to\n  AND ($model IS NULL OR model = $model)\nGROUP BY model\nORDER BY requests DESC', limit: 100 },
  other: { kind: 'histogram', field: 'latency_ms', buckets: 40 },
};

const DRAWS: Record<Form, readonly ChartKind['draws'][]> = {
  timeseries: ['windows'], aggregate: ['rows', 'crossings', 'dials', 'records'], sql: ['records', 'rows', 'crossings'],
  other: ['rows', 'crossings', 'bins', 'quantiles', 'records', 'spans', 'windows', 'dials'],
};
const OTHER_DRAWS: Record<string, readonly ChartKind['draws'][]> = {
  histogram: ['bins'], percentile: ['quantiles', 'rows', 'windows', 'records'], search: ['records'], trace: ['spans'], session: ['records'],
};

/** Kinds of chart that can draw a question's answer. */
export function chartsFor(query: Query): ChartKindName[] {
  const draws = OTHER_DRAWS[query.kind] ?? DRAWS[formOf(query)];
  const names = Object.keys(CHARTS) as ChartKindName[];
  const crossing = query.kind === 'aggregate' && (query.group_by as string[] | undefined ?? []).length < 2;
  return names.filter((name) => draws.includes(CHARTS[name].draws) && !(crossing && CHARTS[name].draws === 'crossings'));
}

/** A panel with another question, drawn by a chart that can. */
export function asking(panel: PanelSpec, query: Query): PanelSpec {
  const charts = chartsFor(query);
  return { ...panel, query, kind: charts.includes(panel.kind) ? panel.kind : (charts[0] ?? 'table') };
}

export const begun = (form: Form): Query => FIRST[form];
