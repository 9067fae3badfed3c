/** How values spread: histogram, box, violin, cumulative share, candles. */

import { show } from '../lib/format';
import { windowOf } from '../lib/time';
import { everyName, grid, hitTip, lineOf, nameAxis, NICE_MINUTES, rowTip, timeAxis, valueAxis, type Hit, type Room } from './cartesian';
import type { Option } from './engine';
import { labelOf, numbersOf, timeOf, valuesOf, type Column, type Frame } from './frame';
import { colourOf, fade } from './paint';
import { tooltip } from './tooltip';

export function histogram(frame: Frame, room: Room): Option {
  const columns = valuesOf(frame);
  const names = (labelOf(frame)?.values ?? []).map(String);
  return {
    grid: grid(), tooltip: rowTip(frame, room), yAxis: valueAxis('count', room),
    xAxis: nameAxis(names, room, { axisLabel: { ...(nameAxis(names, room)['axisLabel'] as Option), formatter: (name: string) => name.split(' – ')[0] ?? '', hideOverlap: true, width: 60 } }),
    series: columns.map((column) => ({
      type: 'bar', id: column.key, name: column.label, stack: 'all', silent: true, barCategoryGap: '4%', itemStyle: { color: colourOf(column.ink, room.paint) }, data: numbersOf(column),
    })),
  };
}

/** Share of the values up to each bound. */
export function cumulative(frame: Frame, room: Room): Option {
  const names = (labelOf(frame)?.values ?? []).map((name) => String(name).split(' – ')[1] ?? '');
  const columns = valuesOf(frame).map((column): Column => {
    const counts = numbersOf(column);
    const whole = counts.reduce<number>((sum, value) => sum + (value ?? 0), 0);
    let sum = 0;
    return { ...column, unit: 'ratio', values: counts.map((value) => (whole ? (sum += value ?? 0) / whole : null)) };
  });
  return {
    grid: grid(), tooltip: rowTip({ ...frame, columns: [{ ...(labelOf(frame) as Column), values: names.map((name) => `up to ${name}`) }, ...columns] }, room),
    xAxis: nameAxis(names, room, { boundaryGap: false }), yAxis: valueAxis('ratio', room, { max: 1, interval: 0.25 }),
    series: columns.map((column) => ({
      type: 'line', id: column.key, name: column.label, silent: true, symbol: 'none', step: 'end', lineStyle: { width: 1.75, color: colourOf(column.ink, room.paint) }, itemStyle: { color: colourOf(column.ink, room.paint) }, data: column.values,
    })),
  };
}

/** Five quantiles of each row, in the order they were asked: whiskers, quartiles and the median between. */
export function box(frame: Frame, room: Room): Option {
  const names = (labelOf(frame)?.values ?? []).map(String);
  const five = valuesOf(frame).slice(0, 5);
  const data = names.map((name, row) => {
    const values = five.map((column) => numbersOf(column)[row] ?? 0).sort((a, b) => a - b);
    const colour = colourOf(five[0]?.inks?.[row] ?? 'accent', room.paint);
    return { name, value: values, row, itemStyle: { color: fade(colour, 0.25), borderColor: colour, borderWidth: 1.5 } };
  });
  return {
    grid: grid(), xAxis: nameAxis(names, room, { axisLabel: everyName(names, room) }),
    yAxis: valueAxis(five[0]?.unit ?? 'ms', room),
    tooltip: hitTip((hit: Hit) => tooltip(hit.name, '', five.map((column) => lineOf({ ...column, inks: [], ink: 'other' } as Column, hit.dataIndex, room.paint)))),
    series: [{ type: 'boxplot', id: 'box', boxWidth: [8, 34], data }],
  };
}

/** Each group's histogram as a body around its own axis, widest where most values lie. Widths compare within a body. */
export function violin(frame: Frame, room: Room): Option {
  const bodies = valuesOf(frame).slice(0, 12);
  const bounds = frame.bounds ?? [];
  const low = bounds[0]?.[0] || 1;
  const high = bounds.at(-1)?.[1] || 10;
  const names = bodies.map((body) => body.label);
  const widest = bodies.map((body) => Math.max(1, ...numbersOf(body).map((value) => value ?? 0)));
  return {
    grid: grid(), xAxis: nameAxis(names, room, { axisLabel: everyName(names, room) }),
    yAxis: valueAxis('ms', room, { type: 'log', min: low, max: high, minInterval: undefined }),
    tooltip: hitTip((hit: Hit) => {
      const body = bodies[hit.dataIndex];
      const counts = body ? numbersOf(body) : [];
      const most = counts.indexOf(widest[hit.dataIndex] ?? 0);
      return tooltip(body?.label ?? '', '', [
        { colour: 'transparent', label: 'Values', value: show(counts.reduce<number>((sum, value) => sum + (value ?? 0), 0), 'count') },
        { colour: 'transparent', label: 'Most between', value: (bounds[most] ?? []).map((edge) => show(edge, 'ms')).join(' – ') },
      ]);
    }),
    series: [{
      type: 'custom', id: 'violin', data: bodies.map((_, i) => [i, low]), encode: { x: 0, y: 1 },
      renderItem: (at: { dataIndex: number }, api: { coord(value: number[]): number[]; size(value: number[]): number[] }) => {
        const body = bodies[at.dataIndex];
        if (!body) return null;
        const half = Math.min(46, ((api.size([1, 0])[0] ?? 40) / 2) * 0.86);
        const counts = numbersOf(body);
        const side = (sign: number): number[][] => bounds.map(([from, to], bin) => {
          const [x = 0, y = 0] = api.coord([at.dataIndex, Math.sqrt(Math.max(from, 1e-6) * to)]);
          return [x + sign * half * ((counts[bin] ?? 0) / (widest[at.dataIndex] ?? 1)), y];
        });
        const colour = colourOf(body.ink, room.paint);
        return { type: 'polygon', shape: { points: [...side(1), ...side(-1).reverse()], smooth: 0.3 }, style: { fill: fade(colour, 0.35), stroke: colour, lineWidth: 1.25 } };
      },
    }],
  };
}

const CANDLES = 40;

/** Windows folded into candles: first, last, lowest and highest value of the windows in each. */
export function candlestick(frame: Frame, room: Room): Option {
  const column = valuesOf(frame)[0];
  const instants = (timeOf(frame)?.values ?? []) as number[];
  if (!column) return {};
  const least = (frame.stepMs ?? 0) * Math.max(1, Math.ceil(frame.rows / CANDLES));
  // Of a length that the labels of the axis can begin with.
  const stepMs = (NICE_MINUTES.map((minutes) => minutes * 60_000).find((ms) => ms >= least) ?? least) || 1;
  const folds = new Map<number, number[]>();
  numbersOf(column).forEach((value, row) => {
    const at = Math.floor((instants[row] ?? 0) / stepMs) * stepMs;
    if (value !== null) folds.set(at, [...(folds.get(at) ?? []), value]);
  });
  const candles = [...folds].map(([at, inside]) => ({ at, value: [inside[0] as number, inside.at(-1) as number, Math.min(...inside), Math.max(...inside)] }));
  const folded: Frame = { ...frame, rows: candles.length, stepMs, columns: [{ ...(timeOf(frame) as Column), values: candles.map((candle) => candle.at) }] };
  return {
    grid: grid(), xAxis: timeAxis(folded, room), yAxis: valueAxis(column.unit, room, { min: undefined, scale: true }),
    tooltip: hitTip((hit: Hit) => {
      const candle = candles[hit.dataIndex];
      const names = ['First', 'Last', 'Lowest', 'Highest'];
      return tooltip(windowOf(candle?.at ?? 0, stepMs), column.label, names.map((label, i) => ({ colour: 'transparent', label, value: show(candle?.value[i] ?? null, column.unit) })));
    }),
    series: [{
      type: 'candlestick', id: column.key, data: candles.map((candle) => candle.value), barMaxWidth: 14,
      // Rising and falling are told apart by filling as well as by colour.
      itemStyle: { color: room.paint.accent, borderColor: room.paint.accent, color0: room.paint.surface, borderColor0: room.paint.warn },
    }],
  };
}
