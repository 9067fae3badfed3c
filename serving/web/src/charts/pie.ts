/** Parts of a whole as a ring, the whole in its middle. */

import { show } from '../lib/format';
import { FONT, itemTip, type Room } from './cartesian';
import type { Option } from './engine';
import { labelOf, sumOf, valuesOf, type Frame } from './frame';
import { colourOf } from './paint';
import { tooltip } from './tooltip';

const SIZE_SMALL = 11.5;

/** Text within a ring gets an outline unless told otherwise, which blurs it. */
const PLAIN = { textBorderWidth: 0, textBorderColor: 'transparent' };

export function pie(frame: Frame, room: Room): Option {
  const names = (labelOf(frame)?.values ?? []).map(String);
  const column = valuesOf(frame)[0];
  if (!column) return {};
  const whole = sumOf(column);
  const colour = (row: number): string => colourOf(column.inks?.[row] ?? { slot: row }, room.paint);
  const radius = Math.min(room.width, room.height) / 2 - 4;
  const said = show(whole, column.unit);
  // The whole must fit into the hole.
  const size = Math.min(21, (radius * 1.36 * 0.82) / (said.length * 0.62));
  return {
    tooltip: itemTip((row) => {
      const value = column.values[row] as number;
      const share = { colour: 'transparent', label: 'Share', value: show(whole ? value / whole : 0, 'ratio') };
      return tooltip(names[row] ?? '', '', [{ colour: colour(row), label: 'Amount', value: show(value, column.unit) }, share]);
    }),
    series: [{
      type: 'pie', id: column.key, radius: [radius * 0.68, radius], center: ['50%', '50%'], startAngle: 90,
      padAngle: whole ? 1.2 : 0, minAngle: 1, itemStyle: { borderRadius: 3 }, emphasis: { scaleSize: 3 }, labelLine: { show: false },
      label: {
        show: true, position: 'center', silent: true,
        formatter: () => `{whole|${said}}\n{unit|${column.unit === 'tokens' ? 'tokens' : 'in all'}}`,
        rich: {
          whole: { fontSize: size, fontWeight: 600, fontFamily: FONT, color: room.paint.text, lineHeight: 26, ...PLAIN },
          unit: { fontSize: SIZE_SMALL, fontFamily: FONT, color: room.paint.muted, lineHeight: 16, ...PLAIN },
        },
      },
      data: names.map((name, row) => ({ name, value: column.values[row], itemStyle: { color: colour(row) } })),
    }],
  };
}

