/** What the detectors found. */

import type { BoardSpec } from '../../panels/spec';

const NONE = 'No detector has found anything in this range.';

export const ANOMALIES: BoardSpec = {
  title: 'Anomalies',
  panels: [
    { id: 'course', title: 'When and where', kind: 'timeline', place: { x: 0, y: 0, w: 12, h: 6 }, query: { kind: 'anomalies', limit: 200 }, empty: NONE },
    { id: 'found', title: 'Found anomalies', note: 'newest first', kind: 'table', place: { x: 0, y: 6, w: 12, h: 8 }, drill: { page: 'traces' }, query: { kind: 'anomalies', limit: 200 }, empty: NONE },
    { id: 'detectors', title: 'Detectors', kind: 'table', place: { x: 0, y: 14, w: 12, h: 5 }, query: { kind: 'detectors' }, empty: 'No detector has been trained yet.' },
  ],
};
