/** What the detectors found. */

import type { BoardSpec } from '../../panels/spec';

const NONE = 'No detector has found anything in this range. What is usual is known from two hours of calls on; until then nothing is scored.';

export const ANOMALIES: BoardSpec = {
  title: 'Anomalies',
  panels: [
    { id: 'course', title: 'When and where', kind: 'timeline', place: { x: 0, y: 0, w: 12, h: 5 }, query: { kind: 'anomalies', limit: 200 }, empty: NONE },
    { id: 'found', title: 'Found anomalies', note: 'newest first', kind: 'table', place: { x: 0, y: 5, w: 12, h: 12 }, drill: { page: 'traces' }, query: { kind: 'anomalies', limit: 200 }, empty: NONE },
    { id: 'detectors', title: 'Detectors', note: 'figures of held-back time', kind: 'table', place: { x: 0, y: 17, w: 12, h: 5 }, query: { kind: 'detectors' }, empty: 'No detector has been trained yet.' },
  ],
};
