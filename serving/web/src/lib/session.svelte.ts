/** The API key the page speaks with. It lives in this tab unless the reader asks to be remembered. */

const NAME = 'hub.api-key';

class Session {
  key = $state<string | null>(sessionStorage.getItem(NAME) ?? localStorage.getItem(NAME));
  /** Set once the hub has answered 401, with the reason it gave. */
  refused = $state<string | null>(null);

  keep(key: string, remember: boolean): void {
    this.forget();
    (remember ? localStorage : sessionStorage).setItem(NAME, key);
    this.key = key;
    this.refused = null;
  }

  forget(): void {
    sessionStorage.removeItem(NAME);
    localStorage.removeItem(NAME);
    this.key = null;
  }

  refuse(reason: string): void {
    this.refused = reason;
  }

  signOut(): void {
    this.forget();
    this.refused = 'Signed out of this browser.';
  }
}

export const session = new Session();
