/** Bars: one per name, upright or lying, and stacked over time. */

import { show } from '../lib/format';
import { FONT, grid, LETTER, markLines, rowTip, SIZE, timeAxis, timeTip, valueAxis, type Room } from './cartesian';
import type { Option } from './engine';
import { labelOf, numbersOf, valuesOf, type Column, type Frame } from './frame';
import { colourOf, fade } from './paint';

/** Lying bars keep together where there are few of them. */
const APART = 52;

function coloured(column: Column, room: Room): Option[] {
  return numbersOf(column).map((value, row) => ({
    value, itemStyle: { color: colourOf(column.inks?.[row] ?? column.ink, room.paint) },
  }));
}

/** A long name over some lines, broken behind its separators where it has any. */
function wrapped(name: string, letters: number, lines: number): string {
  const made: string[] = [''];
  for (const piece of name.split(/(?<=[-_/: ])/)) {
    const last = made.length - 1;
    if ((made[last] ?? '').length + piece.length <= letters || made[last] === '') made[last] += piece;
    else made.push(piece);
  }
  const kept = made.slice(0, lines).map((text) => (text.length > letters + 1 ? `${text.slice(0, letters - 1)}…` : text));
  if (made.length > lines) kept[lines - 1] = `${(kept[lines - 1] ?? '').replace(/[-_/.: …]+$/, '')}…`;
  return kept.join('\n');
}

/** Upright bars; further measures marked as ticks across the bar. */
export function bar(frame: Frame, room: Room): Option {
  const names = (labelOf(frame)?.values ?? []).map(String);
  const [first, ...rest] = valuesOf(frame);
  if (!first) return {};
  const each = (room.width - 64) / Math.max(1, names.length);
  const steep = each < 58;
  const thick = Math.round(Math.min(44, each * 0.58));
  return {
    grid: grid(), tooltip: rowTip(frame, room),
    xAxis: {
      type: 'category', data: names, axisTick: { show: false }, axisLine: { lineStyle: { color: room.paint.line } },
      axisLabel: {
        color: room.paint.muted, fontSize: SIZE, fontFamily: FONT, interval: 0, margin: 9, lineHeight: 14,
        ...(steep
          ? { rotate: 48, width: 104, overflow: 'truncate', ellipsis: '…' }
          : { formatter: (name: string) => wrapped(name, Math.floor((each - 6) / LETTER), 3) }),
      },
    },
    yAxis: valueAxis(first.unit, room),
    series: [
      { type: 'bar', id: first.key, name: first.label, data: coloured(first, room), barWidth: thick, silent: true,
        itemStyle: { borderRadius: [3, 3, 0, 0] } },
      ...rest.filter((column) => column.mark).map((column) => ({
        type: 'scatter', id: column.key, name: column.label, data: numbersOf(column), silent: true,
        symbol: 'rect', symbolSize: [thick * 0.72, 2.5], itemStyle: { color: room.paint.muted }, z: 4,
      })),
    ],
  };
}

/** Lying bars, longest on top, each with its value at the end. */
export function horizontalBar(frame: Frame, room: Room): Option {
  const names = (labelOf(frame)?.values ?? []).map(String);
  const first = valuesOf(frame)[0];
  if (!first) return {};
  const widest = Math.max(46, ...first.values.map((value) => show(value, first.unit).length * (LETTER + 2)));
  const each = (room.height - 16) / Math.max(1, names.length);
  const thick = Math.max(1, Math.round(Math.min(18, each * 0.56)));
  // Names of more rows than there are lines for would stand over each other.
  const interval = each < 14 ? Math.ceil(14 / each) - 1 : 0;
  return {
    grid: grid({ right: 0, top: 0, left: 0, bottom: Math.max(2, room.height - names.length * APART) }), tooltip: rowTip(frame, room),
    yAxis: [
      {
        type: 'category', data: names, inverse: true, axisTick: { show: false }, axisLine: { show: false },
        axisLabel: {
          color: room.paint.text, fontSize: SIZE + 0.5, fontFamily: FONT, interval, overflow: 'truncate', ellipsis: '…',
          width: Math.min(150, room.width * 0.36), margin: 10,
        },
      },
      // The values as a column of their own, flush right: numbers are compared by their last digit.
      {
        type: 'category', data: names, inverse: true, position: 'right', axisTick: { show: false }, axisLine: { show: false },
        axisPointer: { show: false },
        axisLabel: {
          color: room.paint.text, fontSize: SIZE + 0.5, fontWeight: 600, fontFamily: FONT, interval, margin: widest, align: 'right',
          formatter: (_: string, row: number) => show(first.values[row], first.unit),
        },
      },
    ],
    xAxis: { type: 'value', min: 0, max: 'dataMax', show: false },
    series: [{
      type: 'bar', id: first.key, name: first.label, data: coloured(first, room), barWidth: thick, silent: true,
      itemStyle: { borderRadius: 3 }, showBackground: true,
      backgroundStyle: { color: fade(room.paint.line, 0.28), borderRadius: 3 },
    }],
  };
}

/** Bars over time, stacked, as shares of their window, or side by side; a window in part is paler. */
function timeBars(frame: Frame, room: Room, way: 'stacked' | 'shares' | 'beside'): Option {
  const columns = valuesOf(frame);
  const each = (room.width - 64) / Math.max(1, frame.rows);
  const totals = Array.from({ length: frame.rows }, (_, row) => columns.reduce((sum, column) => sum + Number(column.values[row] ?? 0), 0));
  const share = (value: number | null, row: number): number | null => (value === null || !totals[row] ? null : value / (totals[row] as number));
  return {
    grid: grid(), tooltip: timeTip(frame, room, way === 'beside' ? 'given' : 'stacked'),
    xAxis: timeAxis(frame, room), yAxis: valueAxis(way === 'shares' ? 'ratio' : (columns[0]?.unit ?? 'count'), room, way === 'shares' ? { max: 1, interval: 0.25 } : {}),
    series: [...columns.map((column) => ({
      type: 'bar', id: column.key, name: column.label, ...(way === 'beside' ? {} : { stack: 'all' }), silent: true, barMaxWidth: 34,
      barCategoryGap: each > 10 ? '26%' : each > 5 ? '18%' : '8%',
      itemStyle: { color: colourOf(column.ink, room.paint) },
      data: numbersOf(column).map((value, i) => {
        const shown = way === 'shares' ? share(value, i) : value;
        return i < frame.wholeFrom || i >= frame.openFrom ? { value: shown, itemStyle: { opacity: 0.5 } } : shown;
      }),
    })), ...markLines(frame, room)],
  };
}

export const stackedBar = (frame: Frame, room: Room): Option => timeBars(frame, room, 'stacked');
export const shareBar = (frame: Frame, room: Room): Option => timeBars(frame, room, 'shares');
export const timeBar = (frame: Frame, room: Room): Option => timeBars(frame, room, 'beside');
