/** Answers to the other kinds of questions, and to SQL, as frames. */

import { EMPTY_FRAME, type Column, type Frame } from '../charts/frame';
import { show } from '../lib/format';
import { fieldTitle, titleOf, unitOf, type Unit } from '../lib/measures';
import type { Group, SeriesAnswer, TimeseriesAnswer } from '../lib/shapes';
import { inksOf, namesOf, nameOf, timeseriesFrame, type Seen } from './framing';
import { records, type Heading, type Value } from './records';
import type { Drawing, OtherQuery, SqlQuery } from './spec';
import { spansFrame, type TraceAnswer } from './spans';

interface Row {
  group: Group;
  values?: Record<string, number | null>;
  baseline?: Record<string, number | null>;
  counts?: number[];
  count?: number;
  ratio?: number | null;
  numerator?: number;
  denominator?: number;
  value?: number;
  share?: number | null;
}

interface Answer {
  unit?: string;
  granularity?: string;
  rows?: Row[];
  rest?: Omit<Row, 'group'>;
  other?: Omit<Row, 'group'>;
  unallocated?: Omit<Row, 'group'>;
  series?: { quantile?: string; group: Group; points: [string, number | null, ...number[]][] }[];
  bounds?: [number, number][];
  times?: string[];
  cells?: [number, number, number][];
  cohorts?: { start: string; size: number; retained: number[]; ratios: (number | null)[] }[];
  steps?: { step: string; count: number; ratio_of_first: number | null; ratio_of_previous: number | null }[];
  events?: Record<string, unknown>[];
  traces?: Record<string, unknown>[];
}

export interface SqlAnswer {
  columns: string[];
  types: string[];
  rows: Record<string, unknown>[];
}

const binName = (unit: Unit) => ([low, high]: [number, number]): string => `${show(low, unit)} – ${show(high, unit)}`;
const fieldsOf = (query: OtherQuery): string[] => (Array.isArray(query['group_by']) ? (query['group_by'] as string[]) : []);

/** Groups by row, with what was left over as rows of their own. */
function ranked(answer: Answer, fields: string[]): Row[] {
  const named = (name: string, row?: Omit<Row, 'group'>): Row[] =>
    row && Object.values(row.values ?? {}).some(Boolean) ? [{ ...row, group: Object.fromEntries(fields.map((field) => [field, name])) }] : [];
  return [...(answer.rows ?? []), ...named('Other', answer.rest), ...named('Other', answer.other), ...named('Unallocated', answer.unallocated)];
}

function rowsFrame(query: OtherQuery, draw: Drawing, answer: Answer): Frame {
  const fields = fieldsOf(query);
  const rows = ranked(answer, fields).filter((row) => !row.values || !fields.length || Object.values({ ...row.values, ...row.baseline }).some(Boolean));
  const first = rows[0];
  const inks = inksOf(fields, rows);
  const column = (key: string, label: string, unit: Unit, values: (number | null)[], change: Partial<Column> = {}): Column => ({
    key, label, role: 'value', unit, values, ink: draw.ink ?? 'accent', ...inks, ...change,
  });
  const title = (measure: string): string => draw.titles?.[measure] ?? titleOf(measure);
  const columns: Column[] = Object.keys(first?.values ?? {}).filter((measure) => !draw.hide?.includes(measure)).map((measure) =>
    column(measure, title(measure), unitOf(measure, answer.unit), rows.map((row) => row.values?.[measure] ?? null)));
  for (const measure of Object.keys(first?.baseline ?? {})) {
    columns.push(column(`before ${measure}`, `${title(measure)} before`, unitOf(measure), rows.map((row) => row.baseline?.[measure] ?? null),
      { ink: 'ghost', ghost: true }));
  }
  if (first && 'ratio' in first) columns.push(column('ratio', 'Ratio', 'ratio', rows.map((row) => row.ratio ?? null)));
  if (first && 'value' in first) columns.push(column('value', `Distinct ${fieldTitle(String(query['field']))}`, 'count', rows.map((row) => row.value ?? null)));
  if (first && 'share' in first) columns.push(column('share', 'Share', 'ratio', rows.map((row) => row.share ?? null), { role: 'note' }));
  return { ...EMPTY_FRAME, columns: [...namesOf(fields, rows), ...columns], rows: rows.length, groups: rows.map((row) => row.group) };
}

/** Quantiles and ratios over time. */
function seriesFrame(query: OtherQuery, draw: Drawing, answer: Answer, seen: Seen): Frame {
  const series = (answer.series ?? []).map((one): SeriesAnswer => ({
    measure: one.quantile ?? 'ratio', unit: one.quantile ? 'ms' : 'ratio', group: one.group, points: one.points.map(([at, value]) => [at, value]),
  }));
  const measure = [...new Set(series.map((one) => one.measure))];
  const told = { ...answer, series } as unknown as TimeseriesAnswer;
  return timeseriesFrame({ measure, group_by: fieldsOf(query) }, draw, [told], seen);
}

function histogramFrame(query: OtherQuery, answer: Answer): Frame {
  const bounds = answer.bounds ?? [];
  const rows = answer.rows ?? [];
  const unit = unitOf('', answer.unit);
  const label: Column = { key: 'label', label: titleOf(String(query['field'])), role: 'label', unit: 'text', values: bounds.map(binName(unit)), ink: 'accent' };
  const columns = rows.map((row, i): Column => ({
    key: nameOf(row.group) || 'count', label: nameOf(row.group) || 'Calls', role: 'value', unit: 'count', values: row.counts ?? [],
    ink: rows.length > 1 ? (inksOf(fieldsOf(query), rows).inks?.[i] ?? { slot: i }) : 'accent',
  }));
  return { ...EMPTY_FRAME, columns: [label, ...columns], rows: bounds.length, bounds };
}

function heatmapFrame(answer: Answer): Frame {
  const cells = answer.cells ?? [];
  const bounds = answer.bounds ?? [];
  const name = binName(unitOf('', answer.unit));
  const frame = records(cells.map(([at, bin, count]) => ({
    at: Date.parse(answer.times?.[at] ?? ''), bin: name(bounds[bin] ?? [0, 0]), count,
  })), [['at', 'Window', 'time', 'dimension'], ['bin', 'Duration', 'text', 'dimension'], ['count', 'Calls', 'count', 'value']]);
  return { ...frame, listed: false, bounds, granularity: answer.granularity ?? null };
}

function cohortFrame(answer: Answer): Frame {
  const cells = (answer.cohorts ?? []).flatMap((cohort) =>
    cohort.size ? cohort.ratios.map((ratio, k) => ({ start: cohort.start.slice(0, 10), k: String(k), ratio, retained: cohort.retained[k] ?? 0 })) : []);
  const headings: Heading[] = [['k', 'Periods later', 'text', 'dimension'], ['start', 'First seen', 'text', 'dimension'],
    ['ratio', 'Came back', 'ratio', 'value'], ['retained', 'Of them', 'count', 'note']];
  return { ...records(cells, headings), listed: false };
}

function funnelFrame(draw: Drawing, answer: Answer): Frame {
  const steps = (answer.steps ?? []).map((step) => ({ ...step, step: draw.titles?.[step.step] ?? step.step }));
  const frame = records(steps, [['step', 'Step', 'text', 'label'], ['count', 'Count', 'count', 'value'],
    ['ratio_of_first', 'Of the first', 'ratio', 'note'], ['ratio_of_previous', 'Of the step before', 'ratio', 'note']]);
  return { ...frame, listed: false };
}

const EVENT_FIELDS = ['kind', 'service', 'model', 'status', 'latency_ms', 'user_id', 'trace_id'];

/** A field of an event, nested ones by dots; a document is printed as its JSON. */
function told(event: Record<string, unknown>, field: string): Value {
  const inner = /^(payload|attributes)\.(.+)$/.exec(field);
  const holder = inner ? event[inner[1] ?? ''] : event;
  const value = holder && typeof holder === 'object' ? (holder as Record<string, unknown>)[inner?.[2] ?? field] : undefined;
  if (value === undefined || value === null) return null;
  if (field.endsWith('_at')) return Date.parse(String(value));
  return typeof value === 'number' || typeof value === 'string' ? value : JSON.stringify(value);
}

function eventsFrame(query: OtherQuery, draw: Drawing, answer: Answer): Frame {
  const events = answer.events ?? [];
  const fields = draw.fields ?? EVENT_FIELDS;
  const rows = events.map((event) => Object.fromEntries(['occurred_at', ...fields].map((field) => [field, told(event, field)])));
  const headings = fields.map((field): Heading => {
    const number = rows.some((row) => typeof row[field] === 'number');
    const at = field.endsWith('_at');
    return [field, draw.titles?.[field] ?? fieldTitle(field.replace('payload.', '')), at ? 'time' : number ? unitOf(field) : 'text', number && !at ? 'value' : 'dimension'];
  });
  const frame = records(rows, [['occurred_at', 'Time', 'time', 'dimension'], ...headings]);
  return { ...frame, groups: events.map((event) => ({ trace_id: (event['trace_id'] as string | undefined) ?? null })) };
}

function sqlFrame(answer: SqlAnswer): Frame {
  const numeric = /int|double|float|decimal|hugeint/i;
  let labelled = false;
  const headings = answer.columns.map((name, i): Heading => {
    const type = answer.types[i] ?? '';
    if (numeric.test(type)) return [name, titleOf(name), unitOf(name), 'value'];
    const time = /timestamp|date/i.test(type);
    const role = labelled || time ? 'dimension' : 'label';
    labelled ||= role === 'label';
    return [name, fieldTitle(name), time ? 'time' : 'text', role];
  });
  const times = headings.filter(([, , unit]) => unit === 'time').map(([name]) => name);
  const rows = answer.rows.map((row) => ({ ...row, ...Object.fromEntries(times.map((name) => [name, row[name] === null ? null : Date.parse(String(row[name]))])) }));
  return records(rows, headings);
}

const SESSION_TRACES: Heading[] = [['trace_id', 'Trace', 'text', 'label'], ['started_at', 'Began', 'time', 'dimension'], ['event_count', 'Events', 'count', 'value'],
  ['request_count', 'Requests', 'count', 'value'], ['total_tokens', 'Tokens', 'tokens', 'value'], ['cost_usd', 'Cost', 'usd', 'value']];

export function answerFrame(query: OtherQuery | SqlQuery, draw: Drawing, given: unknown, seen: Seen): Frame {
  if (query.kind === 'sql') return sqlFrame(given as SqlAnswer);
  const other = query as OtherQuery;
  const answer = given as Answer;
  switch (query.kind) {
    case 'histogram': return histogramFrame(other, answer);
    case 'heatmap': return heatmapFrame(answer);
    case 'cohort': return cohortFrame(answer);
    case 'funnel': return funnelFrame(draw, answer);
    case 'search': return eventsFrame(other, draw, answer);
    case 'trace': return spansFrame(given as TraceAnswer);
    case 'session': return records(answer.traces ?? [], SESSION_TRACES, (row) => ({ trace_id: String(row['trace_id']) }));
    default: return answer.series ? seriesFrame(other, draw, answer, seen) : rowsFrame(other, draw, answer);
  }
}
