/** A Frame is one answer as a small table. The chart draws it and the table view prints it, so both always agree. */

import type { Unit } from '../lib/measures';
import type { Group } from '../lib/shapes';

/** What a colour means; the painter turns it into one for the current theme. */
export type Ink = { slot: number } | 'accent' | 'bad' | 'good' | 'warn' | 'other' | 'ghost';

export interface Column {
  key: string;
  label: string;
  /** A dimension is one of several that name a row together; a note is printed and not drawn. */
  role: 'time' | 'label' | 'dimension' | 'value' | 'note';
  unit: Unit;
  values: (number | string | null)[];
  ink: Ink;
  /** Drawn behind the rest and left out of sums: the period before. */
  ghost?: boolean;
  /** Drawn as a mark on the bar of the first value: a quantile beside its mean. */
  mark?: boolean;
  /** Rows may differ in unit, as gauges do. */
  units?: Unit[];
  inks?: Ink[];
}

/** What changed at an instant, drawn as a line across a chart over time. */
export interface Mark {
  at: number;
  text: string;
}

export interface Frame {
  columns: Column[];
  rows: number;
  /** The group behind each row, for those who click on it. */
  groups?: Group[];
  /** Edges of each row's bin, in the unit of its values. */
  bounds?: [number, number][];
  marks?: Mark[];
  /** Rows are records to be read: it is empty only without any. */
  listed?: boolean;
  /** The records as they were told, for a chart that draws more of them than columns hold. */
  documents?: readonly unknown[];
  /** Width of a time window, ms; null where rows are not windows. */
  stepMs: number | null;
  granularity: string | null;
  /** Whole windows are those from `wholeFrom` to before `openFrom`: the range cuts the first, the last is not over. */
  wholeFrom: number;
  openFrom: number;
}

export const EMPTY_FRAME: Frame = { columns: [], rows: 0, stepMs: null, granularity: null, wholeFrom: 0, openFrom: 0 };

export const timeOf = (frame: Frame): Column | undefined => frame.columns.find((column) => column.role === 'time');
export const labelOf = (frame: Frame): Column | undefined => frame.columns.find((column) => column.role === 'label');

/** What names a row together. A label that joins them is not one itself; one that is a column of its own comes first. */
export function dimensionsOf(frame: Frame): Column[] {
  const dimensions = frame.columns.filter((column) => column.role === 'dimension');
  const label = labelOf(frame);
  return label && label.key !== 'label' && dimensions.length ? [label, ...dimensions] : dimensions;
}

export const valuesOf = (frame: Frame): Column[] => frame.columns.filter((column) => column.role === 'value');

export function numbersOf(column: Column): (number | null)[] {
  return column.values.map((value) => (typeof value === 'number' ? value : null));
}

export function sumOf(column: Column): number {
  return numbersOf(column).reduce<number>((sum, value) => sum + (value ?? 0), 0);
}

/** Nothing to draw: no rows, or amounts that are all nothing. A ratio of zero is a finding, not an absence. */
export function isEmpty(frame: Frame): boolean {
  if (frame.listed) return frame.rows === 0;
  const drawn = valuesOf(frame).filter((column) => !column.ghost);
  return drawn.every((column) =>
    column.values.every((value) => value === null || (value === 0 && column.unit !== 'ratio' && !column.units)),
  );
}

/** What all names begin with, up to a dot: kinds of one module are told apart by what follows. */
function sharedStart(names: readonly string[]): string {
  const [first = ''] = names;
  const dot = first.indexOf('.');
  const start = dot > 0 && /^[a-z_]+$/.test(first.slice(0, dot)) ? first.slice(0, dot + 1) : '';
  return names.length > 1 && start && names.every((name) => name.startsWith(start) && name.length > start.length) ? start : '';
}

/** The frame with its names as a picture has room for; a table is given them whole. */
export function shortened(frame: Frame, whole: boolean): Frame {
  if (whole) return frame;
  const series = frame.columns.filter((column) => column.role === 'value');
  const start = sharedStart(series.map((column) => column.label));
  const columns = frame.columns.map((column) => {
    if (start && column.role === 'value') return { ...column, label: column.label.slice(start.length) };
    if (column.unit !== 'text' || (column.role !== 'label' && column.role !== 'dimension')) return column;
    const values = column.values.map((value) => (value === null ? '(none)' : value));
    const own = sharedStart([...new Set(values.map(String))]);
    return { ...column, values: own ? values.map((value) => String(value).slice(own.length)) : values };
  });
  return { ...frame, columns };
}
