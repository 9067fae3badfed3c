/** Charts are painted one after the other, a slice of time at once: two dozen that change together must not hold up a click. */

const SLICE_MS = 12;
const waiting = new Set<() => void>();
let planned = false;

function go(): void {
  planned = false;
  const until = performance.now() + SLICE_MS;
  for (const work of waiting) {
    waiting.delete(work);
    work();
    if (performance.now() > until) break;
  }
  plan();
}

function plan(): void {
  if (planned || waiting.size === 0) return;
  planned = true;
  setTimeout(go, 0);
}

/** Does the work soon, in the order asked for; what is returned calls it off. */
export function inTurn(work: () => void): () => void {
  waiting.add(work);
  plan();
  return () => void waiting.delete(work);
}
