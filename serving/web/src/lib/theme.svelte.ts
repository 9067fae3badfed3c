/** Light or dark: the system's choice until the reader makes one. */

export type Theme = 'light' | 'dark';

const NAME = 'hub.theme';
const system = window.matchMedia('(prefers-color-scheme: dark)');

function stored(): Theme | null {
  const value = localStorage.getItem(NAME);
  return value === 'light' || value === 'dark' ? value : null;
}

class ThemeChoice {
  current = $state<Theme>(stored() ?? (system.matches ? 'dark' : 'light'));

  constructor() {
    this.apply();
    system.addEventListener('change', () => {
      if (!stored()) this.current = system.matches ? 'dark' : 'light';
      this.apply();
    });
  }

  toggle(): void {
    this.current = this.current === 'dark' ? 'light' : 'dark';
    const same = this.current === (system.matches ? 'dark' : 'light');
    // Back at what the system says is back to following it.
    if (same) localStorage.removeItem(NAME);
    else localStorage.setItem(NAME, this.current);
    this.apply();
  }

  private apply(): void {
    document.documentElement.dataset['theme'] = this.current;
  }
}

export const theme = new ThemeChoice();
