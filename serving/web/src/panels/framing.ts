/** Answers of the hub, as the frame a chart draws. */

import { EMPTY_FRAME, sumOf, type Column, type Frame } from '../charts/frame';
import { inkOf } from '../charts/paint';
import { additive, titleOf, unitOf } from '../lib/measures';
import type { AggregateAnswer, Group, LedgerAnswer, SeriesAnswer, TimeseriesAnswer } from '../lib/shapes';
import { stepOf } from '../lib/time';
import { ledgerFrame } from './ledger';
import type { AggregateQuery, Drawing, PanelSpec, TimeseriesQuery } from './spec';

const SERIES = 7;

export interface Seen {
  /** When the answers were asked for: windows that end later are not over. */
  now: number;
  rangeMs: number;
}

function nameOf(group: Group): string {
  return Object.values(group).map((value) => value || '(none)').join(' · ');
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

function timeseriesFrame(query: TimeseriesQuery, draw: Drawing, answers: TimeseriesAnswer[], seen: Seen): Frame {
  const [answer, before] = answers;
  if (!answer) return EMPTY_FRAME;
  const stepMs = stepOf(answer.granularity);
  const instants = [...new Set(answer.series.flatMap((s) => s.points.map(([t]) => Date.parse(t))))].sort((a, b) => a - b);
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
  const columns = query.measures.flatMap((measure) => {
    // Events without a model are a group of their own, with nothing to draw: it must not take a colour.
    const told = answer.series.filter((one) => one.measure === measure && (!dimension || one.points.some(([, value]) => value)));
    const drawn = told.map((series): Column => {
      const name = nameOf(series.group);
      return {
        key: `${measure} ${name}`, label: name || (draw.titles?.[measure] ?? titleOf(measure)), role: 'value',
        unit: unitOf(measure, series.unit), values: spread(series, 0), ink: draw.ink ?? 'accent',
      };
    });
    const shown = fold(drawn, draw.series ?? SERIES, measure);
    return shown.map((column) => (dimension && column.ink !== 'other' ? { ...column, ink: inkOf(dimension, column.label) } : column));
  });
  if (before) {
    const earlier = before.series.find((series) => series.measure === query.measures[0]);
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
  const shown = query.measures.filter((measure) => !draw.hide?.includes(measure));
  if (draw.turn) {
    const values = answer.rows[0]?.values ?? {};
    const label: Column = { key: 'label', label: 'Part', role: 'label', unit: 'text', values: shown.map(title), ink: 'accent' };
    const value: Column = {
      key: 'value', label: 'Amount', role: 'value', unit: unitOf(shown[0] ?? ''), values: shown.map((measure) => values[measure] ?? 0), ink: 'accent',
      inks: shown.map((_, slot) => ({ slot })),
    };
    return { ...EMPTY_FRAME, columns: [label, value], rows: shown.length };
  }
  const dimension = (query.group_by ?? []).join('+');
  const rows = answer.rows.filter((row) => shown.some((measure) => row.values[measure]));
  const names = rows.map((row) => nameOf(row.group));
  const inks = names.map((name) => inkOf(dimension, name));
  const columns = shown.map((measure): Column => ({
    key: measure, label: title(measure), role: 'value', unit: unitOf(measure),
    values: rows.map((row) => row.values[measure] ?? null), ink: draw.ink ?? 'accent', inks,
    ...(draw.marks?.includes(measure) ? { mark: true } : {}),
  }));
  const words = (query.group_by ?? []).join(' · ');
  const label: Column = {
    key: 'label', label: words.charAt(0).toUpperCase() + words.slice(1), role: 'label', unit: 'text', values: names, ink: 'accent',
  };
  return { ...EMPTY_FRAME, columns: [label, ...columns], rows: names.length };
}

/** The frame of a panel's answers, in the order of its addresses. */
export function frameOf(spec: PanelSpec, answers: unknown[], seen: Seen): Frame {
  const draw = spec.draw ?? {};
  switch (spec.query.kind) {
    case 'timeseries': return timeseriesFrame(spec.query, draw, answers as TimeseriesAnswer[], seen);
    case 'aggregate': return aggregateFrame(spec.query, draw, answers[0] as AggregateAnswer);
    case 'ledger': return ledgerFrame(answers[0] as LedgerAnswer);
  }
}
