/** Every kind of chart there is. A new kind is one line here and a builder; the gallery and the picker read this table. */

import type { Component } from 'svelte';
import { bar, horizontalBar, shareBar, stackedBar, timeBar } from './bars';
import Bullets from './Bullets.svelte';
import { bridge, calendar, pareto, punchcard, stream } from './calendars';
import Canvas from './Canvas.svelte';
import type { Room } from './cartesian';
import { correlationMatrix, dependency, force, groupedBar, heatmap, sankey, stackedRowBar } from './crossings';
import { registerMap, type Option } from './engine';
import type { Frame } from './frame';
import Gauges from './Gauges.svelte';
import { area, line, shareArea, stackedArea, stepLine } from './lines';
import { flame, timeline } from './moments';
import { funnel, radialBar, rose, sunburst, tree, treemap } from './parts';
import { pie } from './pie';
import Pivot from './Pivot.svelte';
import { bubble, geo, lollipop, parallel, radar, scatter, scatterMatrix } from './points';
import Records from './Records.svelte';
import SpanRows from './SpanRows.svelte';
import { box, candlestick, cumulative, histogram, violin } from './spread';
import Stat from './Stat.svelte';

/** What every chart component is given. */
export interface Drawn {
  frame: Frame;
  kind: ChartKind;
  title: string;
  /** Said to those who cannot see the chart. */
  label: string;
  rangeMs: number;
  /** Opens the group behind a row; null where rows lead nowhere. */
  pick: ((row: number) => void) | null;
  /** Told the stretch of time drawn over the chart, ms; absent or null where the range is fixed. */
  zoom?: ((from: number, to: number) => void) | null;
}

export interface ChartKind {
  title: string;
  /** Frames it can draw: windows over time, named rows, rows with two names, bins of a distribution, quantiles of rows,
   *  records to be read, spans of a trace, or dials. */
  draws: 'windows' | 'rows' | 'crossings' | 'bins' | 'quantiles' | 'records' | 'spans' | 'dials';
  /** Where the names of the colours stand: a chart whose axis has the names needs none. */
  legend: 'below' | 'beside' | 'none';
  component: Component<Drawn>;
  /** What the canvas draws; kinds with a component of their own have none. */
  option?: (frame: Frame, room: Room) => Option;
  /** A row has no one place in the picture where arrow keys could show its tooltip. */
  unplaced?: boolean;
  /** Time runs along its axis, so that a stretch of it can be chosen. */
  zooms?: boolean;
  /** Fetches what the builder needs before it can draw. */
  load?: () => Promise<void>;
}

type Builder = (frame: Frame, room: Room) => Option;

function drawn(title: string, draws: ChartKind['draws'], option: Builder, legend: ChartKind['legend'] = 'none'): ChartKind {
  return { title, draws, legend, component: Canvas, option };
}

/** Windows side by side along the axis. */
const along = (title: string, option: Builder, legend: ChartKind['legend'] = 'below'): ChartKind => ({ ...drawn(title, 'windows', option, legend), zooms: true });

const shown = (title: string, draws: ChartKind['draws'], component: Component<Drawn>): ChartKind => ({ title, draws, legend: 'none', component });

let land: Promise<void> | undefined;

/** Outlines of the continents, fetched with the first map. */
function loadLand(): Promise<void> {
  land ??= import('./land.json').then(({ default: outlines }) => registerMap('land', outlines as unknown as Parameters<typeof registerMap>[1]));
  return land;
}

export const CHARTS = {
  line: along('Line', line),
  step: along('Step line', stepLine),
  area: along('Area', area),
  stacked_area: along('Stacked areas', stackedArea),
  share_area: along('Areas to 100%', shareArea),
  stream: drawn('Stream', 'windows', stream, 'below'),
  time_bar: along('Bars over time', timeBar),
  stacked_bar: along('Stacked bars', stackedBar),
  share_bar: along('Bars to 100%', shareBar),
  candlestick: along('Candlesticks', candlestick, 'none'),
  calendar: drawn('Calendar', 'windows', calendar),
  punchcard: drawn('Hours of the week', 'windows', punchcard),
  correlation: drawn('Correlation matrix', 'windows', correlationMatrix),
  bar: drawn('Bars', 'rows', bar),
  horizontal_bar: drawn('Horizontal bars', 'rows', horizontalBar),
  lollipop: drawn('Lollipops', 'rows', lollipop),
  bullet: shown('Bullets', 'rows', Bullets),
  pareto: drawn('Pareto', 'rows', pareto),
  bridge: drawn('Bridge to the total', 'rows', bridge),
  pie: drawn('Ring', 'rows', pie, 'beside'),
  rose: drawn('Rose', 'rows', rose, 'beside'),
  radial_bar: drawn('Radial bars', 'rows', radialBar),
  radar: drawn('Radar', 'rows', radar, 'beside'),
  funnel: drawn('Funnel', 'rows', funnel),
  scatter: drawn('Scatter', 'rows', scatter),
  bubble: drawn('Bubbles', 'rows', bubble),
  scatter_matrix: drawn('Scatter matrix', 'rows', scatterMatrix),
  parallel: { ...drawn('Parallel axes', 'rows', parallel), unplaced: true },
  geo: { ...drawn('Map', 'rows', geo), load: loadLand },
  stat: shown('Figures', 'rows', Stat),
  gauge: shown('Gauges', 'dials', Gauges),
  grouped_bar: drawn('Grouped bars', 'crossings', groupedBar),
  stacked_row_bar: drawn('Stacked bars by name', 'crossings', stackedRowBar),
  heatmap: drawn('Heatmap', 'crossings', heatmap),
  pivot: shown('Pivot table', 'crossings', Pivot),
  treemap: drawn('Treemap', 'crossings', treemap),
  sunburst: drawn('Sunburst', 'crossings', sunburst),
  tree: drawn('Tree', 'crossings', tree),
  sankey: drawn('Sankey', 'crossings', sankey),
  force: drawn('Force graph', 'crossings', force),
  dependency: drawn('Dependency graph', 'crossings', dependency),
  histogram: drawn('Histogram', 'bins', histogram, 'below'),
  cumulative: drawn('Cumulative share', 'bins', cumulative, 'below'),
  violin: drawn('Violins', 'bins', violin),
  box: drawn('Boxes', 'quantiles', box),
  table: shown('Table', 'records', Records),
  timeline: drawn('Timeline', 'records', timeline),
  waterfall: shown('Trace waterfall', 'spans', SpanRows),
  flame: drawn('Flame graph', 'spans', flame),
} as const satisfies Record<string, ChartKind>;

export type ChartKindName = keyof typeof CHARTS;

/** A board that was kept elsewhere may name a kind this page does not have: its numbers are still told. */
export const kindOf = (name: ChartKindName): ChartKind => (Object.hasOwn(CHARTS, name) ? CHARTS[name] : CHARTS.table);
