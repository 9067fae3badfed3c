/** The parts of ECharts the page draws with, and only those: each line here is weight in the bundle. */

import {
  BarChart, BoxplotChart, CandlestickChart, CustomChart, GraphChart, HeatmapChart, LineChart, ParallelChart, PieChart,
  RadarChart, SankeyChart, ScatterChart, SunburstChart, ThemeRiverChart, TreeChart, TreemapChart,
} from 'echarts/charts';
import {
  AxisPointerComponent, CalendarComponent, GeoComponent, GridComponent, MarkLineComponent, ParallelComponent, PolarComponent,
  RadarComponent, SingleAxisComponent, TooltipComponent,
} from 'echarts/components';
import * as echarts from 'echarts/core';
import { LabelLayout } from 'echarts/features';
import { CanvasRenderer } from 'echarts/renderers';
import LRU from 'zrender/lib/core/LRU.js';

echarts.use([
  BarChart, BoxplotChart, CandlestickChart, CustomChart, GraphChart, HeatmapChart, LineChart, ParallelChart, PieChart,
  RadarChart, SankeyChart, ScatterChart, SunburstChart, ThemeRiverChart, TreeChart, TreemapChart,
  AxisPointerComponent, CalendarComponent, GeoComponent, GridComponent, MarkLineComponent, ParallelComponent, PolarComponent,
  RadarComponent, SingleAxisComponent, TooltipComponent, CanvasRenderer, LabelLayout,
]);

/** The renderer keeps measured texts in a plain object. A name `__proto__` would be found there without ever being put,
 *  and the cache would then write to the prototype of all objects: such a name gets another key. */
const { get, put } = LRU.prototype;
const key = (text: string | number): string | number => (text === '__proto__' ? `${text} ` : text);

LRU.prototype.get = function (text) {
  return get.call(this, key(text));
};
LRU.prototype.put = function (text, value) {
  return put.call(this, key(text), value);
};

export { init, registerMap } from 'echarts/core';
export type { EChartsType } from 'echarts/core';

/** ECharts' own option types differ between its modular and full builds; the builders return plain objects. */
export type Option = Record<string, unknown>;
