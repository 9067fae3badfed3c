/** Lines and areas over time. The window that is not over yet is drawn dashed: its dip is no finding. */

import { flat, grid, timeAxis, timeTip, valueAxis, type Room } from './cartesian';
import type { Option } from './engine';
import { numbersOf, valuesOf, type Column, type Frame } from './frame';
import { colourOf, fade } from './paint';

type Filling = 'none' | 'soft' | 'strong';

function closed(values: (number | null)[], openFrom: number): (number | null)[] {
  return values.map((value, i) => (i < openFrom ? value : null));
}

function open(values: (number | null)[], openFrom: number): (number | null)[] {
  return values.map((value, i) => (i >= openFrom - 1 ? value : null));
}

function lone(values: (number | null)[]): (index: number) => boolean {
  // A value between two gaps has no line to show it.
  return (i) => values[i] !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null;
}

function drawn(column: Column, frame: Frame, room: Room, filling: Filling): Option[] {
  const colour = colourOf(column.ink, room.paint);
  const values = numbersOf(column);
  const shared = { type: 'line', name: column.label, symbol: 'circle', symbolSize: 7, showSymbol: false, silent: true };
  if (column.ghost) {
    const lineStyle = { color: colour, width: 1.25, type: [2, 3] };
    return [{ ...shared, id: column.key, data: values, lineStyle, itemStyle: { color: colour }, z: 1 }];
  }
  const depth = { none: 0, soft: 0.16, strong: 0.3 }[filling];
  const area = depth
    ? { areaStyle: { color: { type: 'linear', x: 0, y: 0, x2: 0, y2: 1,
        colorStops: [{ offset: 0, color: fade(colour, depth) }, { offset: 1, color: fade(colour, depth / 8) }] } } }
    : {};
  const solid = closed(values, frame.openFrom);
  const single = lone(solid);
  const whole: Option = {
    ...shared, id: column.key, ...area, lineStyle: { color: colour, width: 1.75 }, itemStyle: { color: colour }, z: 3,
    data: solid.map((value, i) => (single(i) ? { value, symbol: 'circle', symbolSize: 5 } : { value, symbol: 'none' })),
    showSymbol: true,
  };
  if (frame.openFrom >= frame.rows) return [whole];
  const dashed = { color: colour, width: 1.5, type: [3, 4], opacity: 0.75 };
  return [whole, {
    ...shared, id: `${column.key} open`, data: open(values, frame.openFrom), lineStyle: dashed, itemStyle: { color: colour }, z: 3,
  }];
}

function lines(frame: Frame, room: Room, filling: Filling): Option {
  const columns = valuesOf(frame);
  const filled: Filling = columns.filter((column) => !column.ghost).length > 1 ? 'none' : filling;
  return {
    grid: grid(), tooltip: timeTip(frame, room),
    xAxis: { ...timeAxis(frame, room), boundaryGap: false },
    yAxis: valueAxis(columns[0]?.unit ?? 'count', room, flat(columns)),
    series: columns.flatMap((column) => drawn(column, frame, room, filled)),
  };
}

export const line = (frame: Frame, room: Room): Option => lines(frame, room, 'soft');
export const area = (frame: Frame, room: Room): Option => lines(frame, room, 'strong');
