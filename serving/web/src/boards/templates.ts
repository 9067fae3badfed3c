/** What a new board may begin as. */

import { AUDIT } from '../pages/boards/audit';
import { COSTS } from '../pages/boards/costs';
import { GATEWAY } from '../pages/boards/gateway';
import { GUARDRAILS } from '../pages/boards/guardrails';
import { LATENCY } from '../pages/boards/latency';
import { OVERVIEW } from '../pages/boards/overview';
import { REGISTRY } from '../pages/boards/registry';
import { SESSIONS } from '../pages/boards/sessions';
import { isDocument } from '../panels/question';
import type { BoardSpec } from '../panels/spec';

/** A shipped board without what only shipped boards may hold. */
const plain = (board: BoardSpec): BoardSpec => ({ ...board, panels: board.panels.filter((panel) => !isDocument(panel.query)) });

const EMPTY: BoardSpec = { title: 'New board', panels: [] };

export const TEMPLATES: Record<string, { title: string; board: BoardSpec }> = {
  empty: { title: 'Empty', board: EMPTY },
  overview: { title: 'Overview', board: plain(OVERVIEW) },
  costs: { title: 'Costs', board: plain(COSTS) },
  latency: { title: 'Latency and reliability', board: plain(LATENCY) },
  gateway: { title: 'Gateway', board: plain(GATEWAY) },
  guardrails: { title: 'Guardrails', board: plain(GUARDRAILS) },
  registry: { title: 'Registry', board: plain(REGISTRY) },
  audit: { title: 'Audit', board: plain(AUDIT) },
  sessions: { title: 'Sessions and agents', board: plain(SESSIONS) },
};
