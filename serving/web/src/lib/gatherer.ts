/** Questions that are asked in one turn of the page go to the hub in one request. */

export interface Question {
  /** The question as JSON text. */
  body: string;
  answered(body: unknown): void;
  failed(fault: unknown): void;
}

/** As many as the hub takes at once. */
const MOST = 50;
/** Of a board that opens, those that come first are sent ahead: all of one request are answered together. */
const AHEAD = 10;

type Send = (path: string, questions: readonly Question[]) => Promise<void>;

export class Gatherer {
  private waiting = new Map<string, Question[]>();

  /** `isNew` tells whether the answer to a path and a question is not held yet. */
  constructor(private readonly send: Send, private readonly isNew: (slot: string) => boolean) {}

  add(path: string, body: string): Promise<unknown> {
    return new Promise((answered, failed) => {
      // The panels of a board ask one after the other within a turn; a timer is the first thing after it.
      if (this.waiting.size === 0) setTimeout(() => this.flush(), 0);
      const questions = this.waiting.get(path) ?? [];
      this.waiting.set(path, [...questions, { body, answered, failed }]);
    });
  }

  private flush(): void {
    const all = [...this.waiting];
    this.waiting.clear();
    for (const [path, questions] of all) {
      const opens = questions.length > AHEAD && questions.filter((one) => this.isNew(`${path} ${one.body}`)).length > questions.length / 2;
      let at = 0;
      while (at < questions.length) {
        const some = questions.slice(at, at + (opens && at === 0 ? AHEAD : MOST));
        at += some.length;
        this.send(path, some).catch((fault: unknown) => some.forEach((one) => one.failed(fault)));
      }
    }
  }
}
