/** A chart in one sentence, for those who hear the page. */

import { show } from '../lib/format';
import { clockOf } from '../lib/time';
import { labelOf, numbersOf, timeOf, valuesOf, type Frame } from './frame';

export function sentenceOf(title: string, kind: string, frame: Frame): string {
  const drawn = valuesOf(frame).filter((column) => !column.ghost);
  const first = drawn[0];
  if (!first) return `${title}, ${kind}, nothing to show`;
  const unit = (row: number) => first.units?.[row] ?? first.unit;
  const time = timeOf(frame);
  if (!time) {
    const names = labelOf(frame)?.values ?? [];
    const said = names.slice(0, 5).map((name, row) => `${name} ${show(first.values[row], unit(row))}`);
    return `${title}, ${kind}: ${said.join(', ')}${names.length > 5 ? ` and ${names.length - 5} more` : ''}`;
  }
  const values = numbersOf(first);
  let top = -1;
  values.forEach((value, row) => {
    if (value !== null && (top < 0 || value > (values[top] ?? 0))) top = row;
  });
  const peak = top < 0 ? '' : `, highest ${show(values[top], first.unit)} at ${clockOf(Number(time.values[top]))}`;
  const series = drawn.length > 1 ? `${drawn.length} series, largest ${first.label}` : first.label;
  return `${title}, ${kind} of ${series}, ${frame.rows} windows${peak}. Arrow keys read it value by value; with Shift they choose a stretch, Enter shows it.`;
}
