/** The choices above the boards about model calls. */

import type { Variable } from '../../panels/spec';

export const PLATFORM: Variable[] = [
  { field: 'model', title: 'Model' },
  { field: 'service', title: 'Service' },
  { field: 'environment', title: 'Environment' },
];
