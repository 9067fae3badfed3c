/** Rows with two names: heat, bars side by side or stacked, flows and graphs. */

import { show } from '../lib/format';
import { everyName, FONT, grid, hitTip, nameAxis, SIZE, valueAxis, words, type Hit, type Room } from './cartesian';
import type { Option } from './engine';
import { dimensionsOf, labelOf, numbersOf, valuesOf, type Frame } from './frame';
import { balance, colourOf, inkOf, inkOver, shade } from './paint';
import { crossed } from './tables';
import { tooltip } from './tooltip';

export function heatmap(frame: Frame, room: Room): Option {
  const table = crossed(frame);
  if (!table) return {};
  const { across, down, cells, rows, value } = table;
  const most = Math.max(1e-12, ...cells.flat().map((cell) => cell ?? 0));
  const roomy = (room.width - 110) / across.length > 44 && (room.height - 40) / down.length > 15;
  return {
    grid: grid({ right: 14, top: 4 }), xAxis: nameAxis(across, room), yAxis: nameAxis(down, room, { inverse: frame.bounds === undefined, axisLine: { show: false } }),
    tooltip: hitTip((hit: Hit) => {
      const [x = 0, y = 0, amount] = hit.value as number[];
      return tooltip(down[y] ?? '', across[x] ?? '', [{ colour: shade((amount ?? 0) / most, room.paint), label: value.label, value: show(amount ?? null, value.unit) }]);
    }),
    series: [{
      type: 'heatmap', id: 'heat', itemStyle: { borderColor: room.paint.surface, borderWidth: across.length > 60 ? 0 : 1, borderRadius: 2 },
      data: cells.flatMap((line, y) => line.flatMap((cell, x) => {
        if (cell === null) return [];
        const color = shade(cell / most, room.paint);
        return [{ value: [x, y, cell], row: rows[y]?.[x], itemStyle: { color }, label: { color: inkOver(color) } }];
      })),
      label: { show: roomy, fontSize: SIZE - 1, fontFamily: FONT, formatter: (hit: Hit) => show((hit.value as number[])[2] ?? null, value.unit) },
    }],
  };
}

function rowBars(frame: Frame, room: Room, stacked: boolean): Option {
  const table = crossed(frame);
  if (!table) return {};
  // The second dimension gives the colours.
  const second = dimensionsOf(frame)[1];
  const series = second ? table.down.map((name, y) => ({ name, values: table.cells[y] ?? [], colour: colourOf(inkOf(second.key, name), room.paint) }))
    : table.across.map((name, x) => ({ name, values: table.cells.map((line) => line[x] ?? null), colour: colourOf({ slot: x }, room.paint) }));
  const names = second ? table.across : table.down;
  return {
    grid: grid(), xAxis: nameAxis(names, room, { axisLabel: everyName(names, room) }),
    yAxis: valueAxis(table.value.unit, room),
    tooltip: hitTip((hit: Hit) => tooltip(hit.name, '', [{ colour: series[hit.seriesIndex]?.colour ?? '', label: series[hit.seriesIndex]?.name ?? '', value: show(hit.value as number, table.value.unit) }])),
    series: series.map((one) => ({
      type: 'bar', id: one.name, name: one.name, ...(stacked ? { stack: 'all' } : {}), barMaxWidth: stacked ? 36 : 18, data: one.values, itemStyle: { color: one.colour, borderRadius: stacked ? 0 : [2, 2, 0, 0] },
    })),
  };
}

export const groupedBar = (frame: Frame, room: Room): Option => rowBars(frame, room, false);
export const stackedRowBar = (frame: Frame, room: Room): Option => rowBars(frame, room, true);

interface Node {
  name: string;
  said: string;
  value: number;
  colour: string;
}

/** Nodes are a name within its dimension, so that a service and a model of one name stay two. */
function flows(frame: Frame, room: Room): { nodes: Node[]; links: { source: string; target: string; value: number; row: number }[] } {
  const dimensions = dimensionsOf(frame);
  const amounts = valuesOf(frame)[0];
  const nodes = new Map<string, Node>();
  const links = new Map<string, { source: string; target: string; value: number; row: number }>();
  for (let row = 0; row < frame.rows; row++) {
    const value = amounts ? (numbersOf(amounts)[row] ?? 0) : 0;
    if (value <= 0) continue;
    const names = dimensions.map((column) => {
      const said = String(column.values[row] ?? '(none)');
      const name = `${column.key} ${said}`;
      const node = nodes.get(name) ?? { name, said, value: 0, colour: colourOf(inkOf(column.key, said), room.paint) };
      nodes.set(name, { ...node, value: node.value + value });
      return name;
    });
    names.slice(1).forEach((target, i) => {
      const source = names[i] as string;
      const key = `${source}\n${target}`;
      const known = links.get(key);
      links.set(key, { source, target, value: (known?.value ?? 0) + value, row: dimensions.length === 2 ? row : -1 });
    });
  }
  return { nodes: [...nodes.values()], links: [...links.values()] };
}

function flowTip(frame: Frame, nodes: Node[], links: { source: string; target: string; value: number }[]): Option {
  const unit = valuesOf(frame)[0]?.unit ?? 'count';
  const label = valuesOf(frame)[0]?.label ?? '';
  const said = new Map(nodes.map((node) => [node.name, node.said]));
  return hitTip((hit: Hit) => {
    if (hit.dataType === 'edge') {
      const link = links[hit.dataIndex];
      return tooltip(`${said.get(link?.source ?? '')} → ${said.get(link?.target ?? '')}`, '', [{ colour: 'transparent', label, value: show(link?.value ?? null, unit) }]);
    }
    const node = nodes.find((one) => one.name === hit.name);
    return tooltip(node?.said ?? '', '', [{ colour: node?.colour ?? '', label, value: show(node?.value ?? null, unit) }]);
  });
}

export function sankey(frame: Frame, room: Room): Option {
  const { nodes, links } = flows(frame, room);
  return {
    tooltip: flowTip(frame, nodes, links),
    series: [{
      type: 'sankey', id: 'sankey', left: 4, right: Math.min(150, room.width * 0.26), top: 6, bottom: 6, nodeWidth: 12, nodeGap: 9, draggable: false,
      emphasis: { focus: 'adjacency' }, lineStyle: { color: 'source', opacity: 0.26 },
      label: words(room.paint, { width: Math.min(150, room.width * 0.26) - 8, overflow: 'truncate', formatter: (hit: Hit) => nodes.find((node) => node.name === hit.name)?.said ?? '' }),
      data: nodes.map((node) => ({ name: node.name, itemStyle: { color: node.colour, borderWidth: 0 } })), links,
    }],
  };
}

function graph(frame: Frame, room: Room, layout: 'force' | 'circular'): Option {
  const { nodes, links } = flows(frame, room);
  const most = Math.max(1e-12, ...nodes.map((node) => node.value));
  const widest = Math.max(1e-12, ...links.map((link) => link.value));
  // Names stand outside of the circle, and all around it.
  const margin = Math.min(104, Math.min(room.width, room.height) * 0.32);
  return {
    tooltip: flowTip(frame, nodes, links),
    series: [{
      type: 'graph', id: layout, layout, roam: false, left: layout === 'circular' ? margin : '20%', right: layout === 'circular' ? margin : '24%', top: layout === 'circular' ? margin : 20, bottom: layout === 'circular' ? margin : 20,
      ...(layout === 'force' ? { force: { repulsion: Math.min(room.width, room.height) * 0.55, edgeLength: [30, 90], gravity: 0.24, layoutAnimation: false } } : { circular: { rotateLabel: true } }),
      emphasis: { focus: 'adjacency' }, labelLayout: { hideOverlap: layout === 'force' }, edgeSymbol: ['none', 'arrow'], edgeSymbolSize: 6,
      label: words(room.paint, { show: true, position: 'right', width: layout === 'circular' ? margin - 18 : 110, overflow: 'truncate', formatter: (hit: Hit) => nodes.find((node) => node.name === hit.name)?.said ?? '' }),
      data: nodes.map((node) => ({ name: node.name, value: node.value, symbolSize: 10 + 24 * Math.sqrt(node.value / most), itemStyle: { color: node.colour } })),
      links: links.map((link) => ({ ...link, lineStyle: { width: 0.75 + 5 * (link.value / widest), color: room.paint.ghost, opacity: 0.55, curveness: 0.16 } })),
    }],
  };
}

export const force = (frame: Frame, room: Room): Option => graph(frame, room, 'force');
export const dependency = (frame: Frame, room: Room): Option => graph(frame, room, 'circular');

/** Pearson's correlation of two columns over the rows that have both; null for fewer than three or without any spread. */
function correlation(a: (number | null)[], b: (number | null)[]): number | null {
  const pairs = a.flatMap((x, i) => (x === null || (b[i] ?? null) === null ? [] : [[x, b[i] as number] as const]));
  if (pairs.length < 3) return null;
  const mean = (side: 0 | 1): number => pairs.reduce((sum, pair) => sum + pair[side], 0) / pairs.length;
  const [mx, my] = [mean(0), mean(1)];
  let [xy, xx, yy] = [0, 0, 0];
  for (const [x, y] of pairs) {
    xy += (x - mx) * (y - my);
    xx += (x - mx) ** 2;
    yy += (y - my) ** 2;
  }
  return xx && yy ? xy / Math.sqrt(xx * yy) : null;
}

/** How each measure moves with each other one, over the rows of the frame. */
export function correlationMatrix(frame: Frame, room: Room): Option {
  const columns = valuesOf(frame).filter((column) => !column.ghost);
  const names = columns.map((column) => column.label);
  const data = columns.flatMap((down, y) => columns.flatMap((across, x) => {
    const value = correlation(numbersOf(across), numbersOf(down));
    if (value === null) return [];
    const color = balance(value, room.paint);
    return [{ value: [x, y, value], itemStyle: { color }, label: { color: inkOver(color) } }];
  }));
  return {
    grid: grid({ right: 4, top: 4 }), xAxis: nameAxis(names, room, { axisLabel: everyName(names, room) }),
    yAxis: nameAxis(names, room, { inverse: true, axisLine: { show: false } }),
    tooltip: hitTip((hit: Hit) => {
      const [x = 0, y = 0, value = 0] = hit.value as number[];
      return tooltip(`${names[y]} · ${names[x]}`, `over ${frame.rows} ${frame.stepMs ? 'windows' : 'rows'}`, [{ colour: balance(value, room.paint), label: 'Correlation', value: value.toFixed(2) }]);
    }),
    series: [{ type: 'heatmap', id: 'correlation', data, itemStyle: { borderColor: room.paint.surface, borderWidth: 1.5, borderRadius: 2 },
      label: { show: true, fontSize: SIZE, fontFamily: FONT, formatter: (hit: Hit) => ((hit.value as number[])[2] ?? 0).toFixed(2) } }],
  };
}

/** Name of a row for a tooltip: its label, or its window. */
export function rowName(frame: Frame, row: number): string {
  return String(labelOf(frame)?.values[row] ?? '');
}
