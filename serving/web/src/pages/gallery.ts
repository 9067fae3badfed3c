/** One panel for each kind of chart, with a question whose answer it can draw. */

import { CHARTS, type ChartKindName } from '../charts/registry';
import type { BoardSpec, Drawing, PanelSpec, Query } from '../panels/spec';

const TIME: Query = { kind: 'timeseries', measure: ['request_count'], fill: 'zero' };
const BY_MODEL: Query = { kind: 'timeseries', measure: ['cost_usd'], group_by: ['model'], fill: 'zero' };
const RANKED: Query = { kind: 'aggregate', measure: ['cost_usd'], group_by: ['model'], order: ['-cost_usd'], limit: 8 };
const MANY: Query = { kind: 'aggregate', measure: ['request_count', 'latency_ms_p95', 'cost_usd', 'output_tokens', 'ttft_ms_p50'], group_by: ['model'], filter: ['model:exists:true'], limit: 12 };
const CROSSED: Query = { kind: 'aggregate', measure: ['request_count'], group_by: ['service', 'model'], filter: ['service:exists:true', 'model:exists:true'], having: ['request_count:gt:0'], limit: 60 };
const BINS: Query = { kind: 'histogram', field: 'latency_ms', buckets: 30, group_by: ['model'], filter: ['model:exists:true'], limit: 6 };
const CHANGES: Query = { kind: 'search', filter: ['module:in:registry,gateway', 'kind:ne:gateway.request'], limit: 100 };

/** Where a kind needs another question than the others that draw the same. */
const OWN: Partial<Record<ChartKindName, Query>> = {
  line: { kind: 'percentile', field: 'latency_ms', quantile: [0.5, 0.95], granularity: 'auto' },
  step: { kind: 'timeseries', measure: ['unique_users'] },
  area: { kind: 'timeseries', measure: ['error_ratio'] },
  time_bar: { kind: 'timeseries', measure: ['input_tokens', 'output_tokens'], granularity: '1h' },
  candlestick: { kind: 'timeseries', measure: ['latency_ms_avg'] },
  calendar: { kind: 'timeseries', measure: ['request_count'], from: '-90d', granularity: '1d' },
  punchcard: { kind: 'timeseries', measure: ['request_count'], from: '-7d', granularity: '1h' },
  correlation: { kind: 'timeseries', measure: ['request_count', 'latency_ms_p95', 'error_count', 'output_tokens', 'cost_usd'] },
  lollipop: { kind: 'percentile', field: 'latency_ms', quantile: [0.5, 0.95], group_by: ['model'], filter: ['model:exists:true'], limit: 8 },
  bullet: { kind: 'aggregate', measure: ['latency_ms_p50', 'latency_ms_p95'], group_by: ['model'], filter: ['model:exists:true'], limit: 8 },
  funnel: { kind: 'funnel', entity: 'trace_id', window: '10m', step: ['module:gateway', 'status:ok', 'kind:observatory.feedback'] },
  scatter: { kind: 'aggregate', measure: ['request_count', 'latency_ms_p95'], group_by: ['user_id'], filter: ['user_id:exists:true'], limit: 300 },
  bubble: { kind: 'aggregate', measure: ['request_count', 'latency_ms_p95', 'cost_usd'], group_by: ['model'], filter: ['model:exists:true'], limit: 12 },
  radar: MANY, parallel: MANY, scatter_matrix: { ...MANY, group_by: ['user_id'], filter: ['user_id:exists:true'], limit: 200 } as Query,
  geo: { kind: 'aggregate', measure: ['request_count'], filter: ['kind:eq:gateway.request'], group_by: ['region'], limit: 30 },
  stat: { kind: 'aggregate', measure: ['request_count', 'cost_usd', 'latency_ms_p95', 'error_ratio'], compare: 'previous' },
  heatmap: { kind: 'heatmap', field: 'latency_ms', buckets: 16, granularity: '1h' },
};

const DRAWN: Record<(typeof CHARTS)[ChartKindName]['draws'], Query> = {
  windows: BY_MODEL, rows: RANKED, crossings: CROSSED, bins: BINS, records: CHANGES,
  quantiles: { kind: 'percentile', field: 'latency_ms', quantile: [0.05, 0.25, 0.5, 0.75, 0.95], group_by: ['model'], filter: ['model:exists:true'], limit: 8 },
  dials: { kind: 'aggregate', measure: ['cache_hit_ratio', 'guardrail_block_ratio', 'error_ratio'] },
  spans: TIME,
};

const DRAW: Partial<Record<ChartKindName, Drawing>> = {
  gauge: { turn: true }, funnel: { titles: { 'module:gateway': 'Sent', 'status:ok': 'Answered', 'kind:observatory.feedback': 'Judged by its user' } }, area: { ink: 'bad' },
  timeline: { fields: ['kind', 'provider', 'model'] }, table: { fields: ['kind', 'provider', 'model', 'severity'] },
};

const WIDE = 4;
const HIGH = 6;

/** All kinds in three columns; kinds of spans are about one trace and stay away without any. */
export function galleryOf(trace: string | null): BoardSpec {
  const names = (Object.keys(CHARTS) as ChartKindName[]).filter((name) => trace !== null || CHARTS[name].draws !== 'spans');
  const panels = names.map((name, i): PanelSpec => {
    const { draws, title } = CHARTS[name];
    const query = draws === 'spans' && trace !== null ? ({ kind: 'trace', trace_id: trace } as Query) : (OWN[name] ?? DRAWN[draws]);
    const draw = DRAW[name];
    return {
      id: `gallery-${name}`, title, note: name, kind: name, query, place: { x: (i % 3) * WIDE, y: Math.floor(i / 3) * HIGH, w: WIDE, h: HIGH },
      empty: 'No event in this range has what this chart draws.', ...(draw ? { draw } : {}),
    };
  });
  return { title: 'Gallery of charts', panels };
}
