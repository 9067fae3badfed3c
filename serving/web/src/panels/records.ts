/** A list of JSON objects as a frame: one column a heading. */

import { EMPTY_FRAME, type Column, type Frame } from '../charts/frame';
import type { Unit } from '../lib/measures';
import type { Group } from '../lib/shapes';

export type Value = string | number | null;
/** Field, title, unit, role. */
export type Heading = [string, string, Unit, Column['role']];

function plain(value: unknown, unit: Unit): Value {
  if (value === null || value === undefined) return null;
  if (unit === 'time') return typeof value === 'number' ? value : Date.parse(String(value));
  if (typeof value === 'number' || typeof value === 'string') return value;
  return Array.isArray(value) ? value.map((one) => (typeof one === 'string' ? one : JSON.stringify(one))).join(', ') : JSON.stringify(value);
}

export function records(rows: readonly object[], headings: readonly Heading[], group?: (row: Record<string, unknown>) => Group): Frame {
  const all = rows as readonly Record<string, unknown>[];
  const columns = headings.map(([key, label, unit, role]): Column => ({
    key, label, role, unit, values: all.map((row) => plain(row[key], unit)), ink: 'accent',
  }));
  return { ...EMPTY_FRAME, columns, rows: rows.length, listed: true, ...(group ? { groups: all.map(group) } : {}) };
}
