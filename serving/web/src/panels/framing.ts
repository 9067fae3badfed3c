/** Answers of the hub, as the frame a chart draws. */

import { EMPTY_FRAME, sumOf, type Column, type Frame, type Ink } from '../charts/frame';
import { inkOf } from '../charts/paint';
import { additive, fieldTitle, titleOf, unitOf } from '../lib/measures';
import type { AggregateAnswer, Group, SeriesAnswer, TimeseriesAnswer } from '../lib/shapes';
import { stepOf } from '../lib/time';
import { answerFrame } from './answers';
import { documentFrame } from './documents';
import { isDocument, rangeOf, TENANT } from './question';
import type { AggregateQuery, Drawing, OtherQuery, PanelSpec, SqlQuery, TimeseriesQuery } from './spec';

const SERIES = 7;

export interface Seen {
  /** When the answers were asked for: windows that end later are not over. */
  now: number;
  rangeMs: number;
}

/** Measures of a question, calculated ones by their names. */
export function measuresOf(query: { measure: string[]; calculate?: string[] }): string[] {
  return [...query.measure, ...(query.calculate ?? [])].map((measure) => measure.split('=', 1)[0] ?? measure);
}

/** Groups beyond the hub's limit come as one. */
const told = (value: string | null | undefined): string => (value === '__other__' ? 'Other' : value || '(none)');

export function nameOf(group: Group): string {
  return Object.values(group).map(told).join(' · ');
}

/** Sums window by window; a window without any value stays without. */
function added(columns: Column[]): (number | null)[] {
  return (columns[0]?.values ?? []).map((_, row) => {
    const present = columns.map((column) => column.values[row]).filter((value) => typeof value === 'number');
    return present.length ? present.reduce((sum, value) => sum + value, 0) : null;
  });
}

function fold(columns: Column[], limit: number, measure: string): Column[] {
  const ranked = [...columns].sort((a, b) => sumOf(b) - sumOf(a));
  if (ranked.length <= limit) return ranked;
  const rest = ranked.slice(limit);
  if (!additive(measure)) return ranked.slice(0, limit);
  const first = rest[0] as Column;
  const other: Column = { ...first, key: '\u0000other', label: `Other (${rest.length})`, ink: 'other', values: added(rest) };
  return [...ranked.slice(0, limit), other];
}

/** A month of days or a day of minutes is drawn; more would be no picture. */
const WINDOWS_MAX = 1_500;

/** The windows told of and those without a value, over all that was asked for: charts beside each other share their
 *  axis. The range is the answer's own, since the clock of a browser may be wrong. */
export function windowsOf({ series, granularity, from, to }: TimeseriesAnswer): number[] {
  const told = [...new Set(series.flatMap((one) => one.points.map(([t]) => Date.parse(t))))].sort((a, b) => a - b);
  const [first] = told;
  const stepMs = stepOf(granularity);
  const [start, end] = [Date.parse(from ?? ''), Date.parse(to ?? '')];
  if (first === undefined || !stepMs || !((end - start) / stepMs <= WINDOWS_MAX)) return told;
  // Days of a time zone that changes its clock are not all of one length: such windows stay as they were told.
  if (!told.every((at) => (at - first) % stepMs === 0)) return told;
  const all = new Set(told);
  for (let at = first; at < end; at += stepMs) all.add(at);
  for (let at = first - stepMs; at + stepMs > start; at -= stepMs) all.add(at);
  return [...all].sort((a, b) => a - b);
}

export function timeseriesFrame(query: Pick<TimeseriesQuery, 'measure' | 'calculate' | 'group_by'>, draw: Drawing, answers: TimeseriesAnswer[], seen: Seen): Frame {
  const [answer, before] = answers;
  if (!answer) return EMPTY_FRAME;
  const stepMs = stepOf(answer.granularity);
  const instants = windowsOf(answer);
  const row = new Map(instants.map((t, i) => [t, i]));
  const spread = (series: SeriesAnswer, shift: number): (number | null)[] => {
    const values: (number | null)[] = instants.map(() => null);
    for (const [t, value] of series.points) {
      const at = row.get(Date.parse(t) + shift);
      if (at !== undefined) values[at] = value;
    }
    return values;
  };
  const dimension = (query.group_by ?? []).join('+');
  const measures = measuresOf(query).filter((measure) => !draw.hide?.includes(measure));
  const columns = measures.flatMap((measure) => {
    // Events without a model are a group of their own, with nothing to draw: it must not take a colour.
    const series = answer.series.filter((one) => one.measure === measure && (!dimension || one.points.some(([, value]) => value)));
    const alone = !dimension && measures.length > 1 && !draw.ink ? { slot: measures.indexOf(measure) } : (draw.ink ?? 'accent');
    const drawn = series.map((one): Column => {
      const name = nameOf(one.group);
      return {
        key: `${measure} ${name}`, label: name || (draw.titles?.[measure] ?? titleOf(measure)), role: 'value',
        unit: unitOf(measure, one.unit), values: spread(one, 0), ink: alone,
      };
    });
    const shown = fold(drawn, draw.series ?? SERIES, measure);
    return shown.map((column) => (dimension && column.ink !== 'other' ? { ...column, ink: inkOf(dimension, column.label) } : column));
  });
  if (before) {
    const earlier = before.series.find((series) => series.measure === measures[0]);
    if (earlier?.points.some(([, value]) => value)) {
      columns.push({
        key: 'before', label: 'Period before', role: 'value', unit: unitOf(earlier.measure, earlier.unit),
        values: spread(earlier, seen.rangeMs), ink: 'ghost', ghost: true,
      });
    }
  }
  const time: Column = { key: 'time', label: 'Window', role: 'time', unit: 'time', values: instants, ink: 'accent' };
  const open = stepMs ? instants.findIndex((t) => t + stepMs > seen.now) : -1;
  return {
    columns: [time, ...columns], rows: instants.length, stepMs, granularity: answer.granularity,
    wholeFrom: answer.from && Date.parse(answer.from) > (instants[0] ?? 0) ? 1 : 0,
    openFrom: open < 0 ? instants.length : open,
  };
}

function aggregateFrame(query: AggregateQuery, draw: Drawing, answer: AggregateAnswer): Frame {
  const title = (measure: string): string => draw.titles?.[measure] ?? titleOf(measure);
  const shown = measuresOf(query).filter((measure) => !draw.hide?.includes(measure));
  if (draw.turn) {
    const values = answer.rows[0]?.values ?? {};
    const label: Column = { key: 'label', label: 'Part', role: 'label', unit: 'text', values: shown.map(title), ink: 'accent' };
    const value: Column = {
      key: 'value', label: 'Amount', role: 'value', unit: unitOf(shown[0] ?? ''), values: shown.map((measure) => values[measure] ?? 0), ink: 'accent',
      inks: shown.map((_, slot) => ({ slot })),
    };
    return { ...EMPTY_FRAME, columns: [label, value], rows: shown.length };
  }
  const fields = query.group_by ?? [];
  const rows = fields.length ? answer.rows.filter((row) => shown.some((measure) => row.values[measure])) : answer.rows;
  const columns = shown.map((measure): Column => ({
    key: measure, label: title(measure), role: 'value', unit: unitOf(measure),
    values: rows.map((row) => row.values[measure] ?? null), ink: draw.ink ?? 'accent', ...inksOf(fields, rows),
    ...(draw.marks?.includes(measure) ? { mark: true } : {}),
  }));
  const before = query.compare && rows.some((row) => row.previous)
    ? shown.map((measure): Column => ({
        key: `before ${measure}`, label: `${title(measure)} before`, role: 'value', unit: unitOf(measure), ink: 'ghost', ghost: true,
        values: rows.map((row) => row.previous?.[measure] ?? null),
      }))
    : [];
  return { ...EMPTY_FRAME, columns: [...namesOf(fields, rows), ...columns, ...before], rows: rows.length, groups: rows.map((row) => row.group) };
}

type Grouped = readonly { group: Group }[];

/** The names of rows: one label, and each field on its own where there are several. */
export function namesOf(fields: readonly string[], rows: Grouped): Column[] {
  const text = (key: string, label: string, role: Column['role'], values: string[]): Column => ({
    key, label, role, unit: 'text', values, ink: 'accent',
  });
  const label = text('label', fields.map(fieldTitle).join(' · ') || 'All', 'label', rows.map((row) => nameOf(row.group) || 'All'));
  if (fields.length < 2) return [label];
  const each = fields.map((field) => text(field, fieldTitle(field), 'dimension', rows.map((row) => told(row.group[field]))));
  return [label, ...each];
}

/** Of these there are so many that a colour for each tells nothing. */
const MANY = new Set(['user_id', 'session_id', 'trace_id']);

export function inksOf(fields: readonly string[], rows: Grouped): { inks?: Ink[] } {
  const dimension = fields.join('+');
  return fields.length && !(fields.length === 1 && MANY.has(dimension)) ? { inks: rows.map((row) => inkOf(dimension, nameOf(row.group))) } : {};
}

/** The frame of a panel's answers, in the order of its addresses. */
export function frameOf(spec: PanelSpec, answers: unknown[], seen: Seen): Frame {
  const draw = spec.draw ?? {};
  const { query } = spec;
  const ranged = { ...seen, rangeMs: rangeOf(query, { id: '', title: '', ms: seen.rangeMs, from: '', to: '', before: '' }).ms };
  switch (query.kind) {
    case 'timeseries': return timeseriesFrame(query as TimeseriesQuery, draw, answers as TimeseriesAnswer[], ranged);
    case 'aggregate': return aggregateFrame(query as AggregateQuery, draw, answers[0] as AggregateAnswer);
    // Costs as any question tells them, of other tenants beside the reader's own.
    case 'tenant_costs': return answerFrame({ kind: 'cost_allocation', group_by: [TENANT] }, draw, answers[0], ranged);
    default: return isDocument(query) ? documentFrame(query, answers[0]) : answerFrame(query as OtherQuery | SqlQuery, draw, answers[0], ranged);
  }
}
