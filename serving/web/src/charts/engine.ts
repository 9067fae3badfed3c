/** The parts of ECharts the page draws with, and only those: each line here is weight in the bundle. */

import { BarChart, LineChart, PieChart, ScatterChart } from 'echarts/charts';
import { AxisPointerComponent, GridComponent, TooltipComponent } from 'echarts/components';
import * as echarts from 'echarts/core';
import { CanvasRenderer } from 'echarts/renderers';

echarts.use([
  BarChart, LineChart, PieChart, ScatterChart, AxisPointerComponent, GridComponent, TooltipComponent, CanvasRenderer,
]);

export { init } from 'echarts/core';
export type { EChartsType } from 'echarts/core';

/** ECharts' own option types differ between its modular and full builds; the builders return plain objects. */
export type Option = Record<string, unknown>;
