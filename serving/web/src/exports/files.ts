/** Files that are made in the page and handed to the reader. */

import type { Frame } from '../charts/frame';
import { seenThrough, type Context } from '../panels/context';
import { frameOf } from '../panels/framing';
import { addressesOf } from '../panels/question';
import type { PanelSpec } from '../panels/spec';

export function hand(name: string, content: Blob): void {
  const address = URL.createObjectURL(content);
  const anchor = document.createElement('a');
  anchor.href = address;
  anchor.download = name.replace(/[^\w.\- ]+/g, '_').slice(0, 120);
  anchor.click();
  // After the click has been taken up.
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

/** A cell that a spreadsheet reads as a text or a number, never as a formula. */
function cell(value: number | string | null | undefined): string {
  if (value === null || value === undefined) return '';
  if (typeof value === 'number') return String(value);
  const plain = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\n\r]/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain;
}

/** The rows of a frame; times as RFC 3339. */
export function csvOf(frame: Frame): string {
  const text = (column: Frame['columns'][number], row: number): string => {
    const value = column.values[row];
    return column.role === 'time' && typeof value === 'number' ? new Date(value).toISOString() : cell(value);
  };
  const head = frame.columns.map((column) => cell(column.label)).join(',');
  const rows = Array.from({ length: frame.rows }, (_, row) => frame.columns.map((column) => text(column, row)).join(','));
  return `${[head, ...rows].join('\r\n')}\r\n`;
}

/** Asks a panel's question once more and hands its rows over. */
export async function handCsv(panel: PanelSpec, context: Context): Promise<void> {
  const answers = await Promise.all(addressesOf(panel.query, context).map((address) => context.ask(address, panel.id)));
  const frame = frameOf(panel, answers, seenThrough(context, Date.now()));
  hand(`${panel.title}.csv`, new Blob([csvOf(frame)], { type: 'text/csv' }));
}
