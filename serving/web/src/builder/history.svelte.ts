/** The states of a board while it is edited, with the way back and forth between them. */

import type { BoardSpec } from '../panels/spec';

const STEPS_MAX = 200;

export class History {
  present = $state.raw<BoardSpec>({ title: '', panels: [] });
  /** Shown in place of the present while a panel is being dragged. */
  dragged = $state.raw<BoardSpec | null>(null);
  /** What the hub keeps, and its version; 0 for a board that is not kept yet. */
  saved = $state.raw<BoardSpec | null>(null);
  version = $state(0);
  private past = $state.raw<readonly BoardSpec[]>([]);
  private future = $state.raw<readonly BoardSpec[]>([]);
  private step = '';

  constructor(board: BoardSpec, version: number) {
    this.present = board;
    this.version = version;
    this.saved = version ? board : null;
  }

  get shown(): BoardSpec {
    return this.dragged ?? this.present;
  }

  get changed(): boolean {
    return this.present !== this.saved;
  }

  get undoable(): boolean {
    return this.past.length > 0;
  }

  get redoable(): boolean {
    return this.future.length > 0;
  }

  /** Goes on with `next`. Changes of one name that follow each other are one step: a word typed, a panel moved by keys. */
  set(next: BoardSpec, name = ''): void {
    this.dragged = null;
    if (!name || name !== this.step) this.past = [...this.past, this.present].slice(-STEPS_MAX);
    this.step = name;
    this.future = [];
    this.present = next;
  }

  undo(): void {
    const before = this.past.at(-1);
    if (!before) return;
    this.step = '';
    this.past = this.past.slice(0, -1);
    this.future = [this.present, ...this.future];
    this.present = before;
  }

  redo(): void {
    const [next, ...rest] = this.future;
    if (!next) return;
    this.step = '';
    this.past = [...this.past, this.present];
    this.future = rest;
    this.present = next;
  }

  kept(version: number): void {
    this.saved = this.present;
    this.version = version;
    this.step = '';
  }
}

/** Boards under the hand, by their place in the address: leaving the page for another loses no work. */
export const drafts = new Map<string, History>();
