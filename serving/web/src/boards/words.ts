/** What went wrong, in one sentence for a person. */

import { HubProblem } from '../lib/client';

export function faultWords(fault: unknown): string {
  if (fault instanceof HubProblem) return [fault.detail || fault.title, fault.hint].filter(Boolean).join(' ');
  return 'The hub does not answer. Nothing was changed; try again.';
}
