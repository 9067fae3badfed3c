/** A frame whose rows have two names each, as a table of one against the other. */

import { show } from '../lib/format';
import { clockOf, windowOf } from '../lib/time';
import { dimensionsOf, labelOf, valuesOf, type Column, type Frame, type Ink } from './frame';
import { inkOf } from './paint';

const DAY_MS = 86_400_000;
const TWO_DAYS_MS = 2 * DAY_MS;

export interface Crossed {
  across: string[];
  down: string[];
  /** By place down, then across; null where there is no such row. */
  cells: (number | null)[][];
  /** Row of the frame behind each cell, -1 without. */
  rows: number[][];
  value: Column;
}

const distinct = (values: readonly (string | number | null)[]): (string | number)[] => [...new Set(values.map((value) => value ?? '(none)'))];

/** Times by the clock within two days, by the day beyond. */
function written(column: Column, names: (string | number)[]): string[] {
  if (column.unit !== 'time') return names.map(String);
  const short = Number(names.at(-1)) - Number(names[0]) <= TWO_DAYS_MS;
  return names.map((at) => (short ? clockOf(Number(at)) : windowOf(Number(at), DAY_MS)));
}

/** The first dimension across, the second down; of one name only, the measures go across. */
export function crossed(frame: Frame): Crossed | null {
  const [one, two] = dimensionsOf(frame);
  const values = valuesOf(frame).filter((column) => !column.ghost);
  const value = values[0];
  if (!value) return null;
  if (!one || !two) {
    const label = labelOf(frame);
    if (!label) return null;
    return {
      across: values.map((column) => column.label), down: label.values.map(String), value,
      cells: label.values.map((_, row) => values.map((column) => number(column.values[row]))),
      rows: label.values.map((_, row) => values.map(() => row)),
    };
  }
  const across = ordered(one);
  const down = ordered(two, frame);
  const cells = down.map(() => across.map((): number | null => null));
  const rows = down.map(() => across.map(() => -1));
  for (let row = 0; row < frame.rows; row++) {
    const x = across.indexOf(one.values[row] ?? '(none)');
    const y = down.indexOf(two.values[row] ?? '(none)');
    (cells[y] as (number | null)[])[x] = number(value.values[row]);
    (rows[y] as number[])[x] = row;
  }
  return { across: written(one, across), down: written(two, down), cells, rows, value };
}

const number = (value: unknown): number | null => (typeof value === 'number' ? value : null);

/** Times and bins in their own order, names as they came. */
function ordered(column: Column, frame?: Frame): (string | number)[] {
  const names = distinct(column.values);
  if (column.unit === 'time') return names.sort((a, b) => Number(a) - Number(b));
  if (!frame?.bounds) return names;
  const place = (name: string | number): number => frame.bounds?.findIndex(([low, high]) => String(name) === `${show(low, 'ms')} – ${show(high, 'ms')}`) ?? 0;
  return names.sort((a, b) => place(a) - place(b));
}

export interface Branch {
  name: string;
  value: number;
  ink: Ink;
  row: number;
  children: Branch[];
}

/** The rows as a tree, one level a dimension, each branch the sum of its leaves. */
export function branches(frame: Frame): Branch[] {
  const dimensions = dimensionsOf(frame);
  const levels = dimensions.length ? dimensions : [labelOf(frame)].filter((column): column is Column => column !== undefined);
  const value = valuesOf(frame)[0];
  const top: Branch[] = [];
  if (!value) return top;
  for (let row = 0; row < frame.rows; row++) {
    const amount = number(value.values[row]) ?? 0;
    let level = top;
    levels.forEach((column, depth) => {
      const name = String(column.values[row] ?? '(none)');
      let branch = level.find((one) => one.name === name);
      if (!branch) level.push((branch = { name, value: 0, ink: inkOf(column.key === 'label' ? column.label.toLowerCase() : column.key, name), row: depth === levels.length - 1 ? row : -1, children: [] }));
      branch.value += amount;
      level = branch.children;
    });
  }
  return top;
}
