/** Time folded: days of a calendar, hours of a week, streams; and bridges and Pareto's order of rows. */

import { show } from '../lib/format';
import { tickOf, windowOf } from '../lib/time';
import { everyName, FONT, grid, hitTip, lineOf, nameAxis, SIZE, valueAxis, words, type Hit, type Room } from './cartesian';
import type { Option } from './engine';
import { labelOf, numbersOf, sumOf, timeOf, valuesOf, type Column, type Frame } from './frame';
import { colourOf, shade } from './paint';
import { tooltip } from './tooltip';

const DAY_MS = 86_400_000;
const WEEKDAYS = ['Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat', 'Sun'];

const dayOf = (ms: number): string => new Date(ms).toISOString().slice(0, 10);

/** Windows added up by day, UTC, as the hub's days are. */
export function calendar(frame: Frame, room: Room): Option {
  const column = valuesOf(frame)[0];
  const instants = (timeOf(frame)?.values ?? []) as number[];
  if (!column || !instants.length) return {};
  const days = new Map<string, number>();
  instants.forEach((at, row) => days.set(dayOf(at), (days.get(dayOf(at)) ?? 0) + Number(column.values[row] ?? 0)));
  const most = Math.max(1e-12, ...days.values());
  // The whole range is laid out, days without an event too.
  const first = Math.min(instants[0] ?? 0, (instants.at(-1) ?? 0) - room.rangeMs + DAY_MS);
  const last = instants.at(-1) ?? 0;
  const weeks = Math.ceil((last - first) / (7 * DAY_MS)) + 1;
  const side = Math.max(6, Math.min((room.width - 60) / weeks, (room.height - 40) / 7, 34));
  const label = words(room.paint, { color: room.paint.muted });
  return {
    calendar: {
      range: [dayOf(first), dayOf(last)], orient: 'horizontal', left: 40, top: 28, cellSize: [side, side], splitLine: { show: false }, yearLabel: { show: false },
      itemStyle: { color: room.paint.grid, borderColor: room.paint.surface, borderWidth: 2 }, dayLabel: { ...label, firstDay: 1, nameMap: ['S', 'M', 'T', 'W', 'T', 'F', 'S'] }, monthLabel: label,
    },
    tooltip: hitTip((hit: Hit) => {
      const [day, value] = hit.value as [string, number];
      return tooltip(day, '', [{ colour: shade(value / most, room.paint), label: column.label, value: show(value, column.unit) }]);
    }),
    series: [{ type: 'heatmap', id: 'days', coordinateSystem: 'calendar', data: [...days].map(([day, value]) => ({ value: [day, value], itemStyle: { color: shade(value / most, room.paint), borderRadius: 3 } })) }],
  };
}

/** Hours across, weekdays down, local time: when in the week it happens. Sums for amounts, means for the rest. */
export function punchcard(frame: Frame, room: Room): Option {
  const column = valuesOf(frame)[0];
  const instants = (timeOf(frame)?.values ?? []) as number[];
  if (!column) return {};
  const sums = new Map<string, { sum: number; count: number }>();
  instants.forEach((at, row) => {
    const value = column.values[row];
    if (typeof value !== 'number') return;
    const key = `${new Date(at).getHours()},${(new Date(at).getDay() + 6) % 7}`;
    const known = sums.get(key) ?? { sum: 0, count: 0 };
    sums.set(key, { sum: known.sum + value, count: known.count + 1 });
  });
  const adds = ['count', 'tokens', 'usd'].includes(column.unit);
  const cells = [...sums].map(([key, { sum, count }]) => ({ at: key.split(',').map(Number), value: adds ? sum : sum / count }));
  const most = Math.max(1e-12, ...cells.map((cell) => cell.value));
  const widest = Math.max(5, Math.min((room.width - 60) / 24, (room.height - 34) / 7) - 2);
  return {
    grid: grid({ top: 4 }), xAxis: nameAxis(Array.from({ length: 24 }, (_, hour) => String(hour).padStart(2, '0')), room), yAxis: nameAxis(WEEKDAYS, room, { inverse: true, axisLine: { show: false } }),
    tooltip: hitTip((hit: Hit) => {
      const [hour = 0, day = 0, value = 0] = hit.value as number[];
      return tooltip(`${WEEKDAYS[day]}, ${String(hour).padStart(2, '0')}:00`, 'local time', [{ colour: 'transparent', label: column.label, value: show(value, column.unit) }]);
    }),
    series: [{ type: 'scatter', id: 'hours', data: cells.map((cell) => ({ value: [...cell.at, cell.value], symbolSize: widest * Math.sqrt(cell.value / most), itemStyle: { color: colourOf('accent', room.paint), opacity: 0.85 } })) }],
  };
}

export function stream(frame: Frame, room: Room): Option {
  const columns = valuesOf(frame).filter((column) => !column.ghost);
  const instants = (timeOf(frame)?.values ?? []) as number[];
  return {
    singleAxis: { type: 'time', left: 8, right: 8, top: 8, bottom: 26, axisLabel: { color: room.paint.muted, fontSize: SIZE, fontFamily: FONT, hideOverlap: true, formatter: (at: number) => tickOf(at, room.rangeMs) }, axisLine: { lineStyle: { color: room.paint.line } }, axisTick: { show: false }, splitLine: { show: false } },
    tooltip: { ...hitTip(() => ''), trigger: 'axis', formatter: (hits: { value: [number, number, string] }[]) => {
      const row = instants.indexOf(Number(hits[0]?.value[0]));
      return tooltip(windowOf(instants[row] ?? 0, frame.stepMs), '', columns.map((column) => lineOf(column, row, room.paint)));
    } },
    color: columns.map((column) => colourOf(column.ink, room.paint)),
    series: [{ type: 'themeRiver', id: 'stream', label: { show: false }, data: columns.flatMap((column) => instants.map((at, row) => [at, Number(column.values[row] ?? 0), column.label])) }],
  };
}

/** Rows as steps from nothing to their sum. */
export function bridge(frame: Frame, room: Room): Option {
  const column = valuesOf(frame)[0];
  if (!column) return {};
  const names = [...(labelOf(frame)?.values ?? []).map(String), 'Total'];
  const values = [...numbersOf(column).map((value) => value ?? 0), sumOf(column)];
  let reached = 0;
  const floors = values.map((value, i) => (i === values.length - 1 ? 0 : (reached += value) - value));
  return {
    grid: grid({ top: 22 }), xAxis: nameAxis(names, room, { axisLabel: everyName(names, room) }), yAxis: valueAxis(column.unit, room),
    tooltip: hitTip((hit: Hit) => tooltip(names[hit.dataIndex] ?? '', '', [{ colour: 'transparent', label: column.label, value: show(values[hit.dataIndex] ?? null, column.unit) }])),
    series: [
      { type: 'bar', id: 'floor', stack: 'all', silent: true, tooltip: { show: false }, itemStyle: { color: 'transparent' }, data: floors, barMaxWidth: 44 },
      { type: 'bar', id: column.key, stack: 'all', barMaxWidth: 44, label: words(room.paint, { show: (room.width - 70) / names.length > 54, position: 'top', formatter: (hit: Hit) => show(values[hit.dataIndex] ?? null, column.unit) }),
        data: values.map((value, row) => ({ value, row: row < values.length - 1 ? row : -1, itemStyle: { borderRadius: 2, color: row === values.length - 1 ? room.paint.muted : colourOf(column.inks?.[row] ?? 'accent', room.paint) } })) },
    ],
  };
}

/** Largest first, and over the bars the share reached so far. */
export function pareto(frame: Frame, room: Room): Option {
  const column = valuesOf(frame)[0];
  if (!column) return {};
  const ranked = numbersOf(column).map((value, row) => ({ row, value: value ?? 0, name: String(labelOf(frame)?.values[row] ?? '') })).sort((a, b) => b.value - a.value);
  const whole = sumOf(column) || 1;
  let sum = 0;
  const shares = ranked.map((one) => (sum += one.value) / whole);
  const names = ranked.map((one) => one.name);
  const told = (row: number): HTMLElement => tooltip(names[row] ?? '', '', [
    { colour: 'transparent', label: column.label, value: show(ranked[row]?.value ?? null, column.unit) }, { colour: 'transparent', label: 'Share so far', value: show(shares[row] ?? null, 'ratio'), quiet: true },
  ]);
  return {
    grid: grid(), tooltip: hitTip((hit: Hit) => told(hit.dataIndex)),
    xAxis: nameAxis(names, room, { axisLabel: everyName(names, room) }),
    yAxis: [valueAxis(column.unit, room), valueAxis('ratio', room, { max: 1, interval: 0.25, splitLine: { show: false } })],
    series: [
      { type: 'bar', id: column.key, barMaxWidth: 40, data: ranked.map(({ value, row }) => ({ value, row, itemStyle: { borderRadius: [3, 3, 0, 0], color: colourOf((column as Column).inks?.[row] ?? 'accent', room.paint) } })) },
      { type: 'line', id: 'share', yAxisIndex: 1, data: shares, symbol: 'circle', symbolSize: 6, lineStyle: { color: room.paint.muted, width: 1.5 }, itemStyle: { color: room.paint.muted } },
    ],
  };
}
