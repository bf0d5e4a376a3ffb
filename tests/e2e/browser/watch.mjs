// What must hold on every page, whatever the test does: nothing is asked of another origin, nothing fails
// unseen, and nothing about a patient leaves the page by an address, a title or the browser's storage.
//
// Not here: what a page looks like (looks.mjs), what it does (run.mjs). Start at `Watch`.

const REPORTS_MAX = 50;

/** Watches one browser context. Findings gather in `problems`; an empty list is good. What the EHR answers is its own. */
export class Watch {
  problems = [];
  #origin;
  #ehr;
  #canaries = new Set();
  #places = [];

  constructor(context, baseUrl, canaries, ehr) {
    this.#origin = new URL(baseUrl).origin;
    this.#ehr = ehr && new URL(ehr).origin;
    canaries.forEach((canary) => this.addCanary(canary));
    context.on('request', (request) => this.#requested(request.url()));
    context.on('response', (response) => this.#answered(response));
    context.on('weberror', (error) => this.#report(`a script failed: ${error.error().message}`));
    context.on('console', (message) => {
      // A status that is not 2xx is judged by `#answered`.
      if (message.type() === 'error' && !message.text().startsWith('Failed to load resource')) {
        this.#report(`the browser's console says: ${message.text()}`);
      }
    });
  }

  /** A text that stands for a patient: it may be on some pages, and never where it would be kept. */
  addCanary(text) {
    const trimmed = text.trim();
    // Shorter texts are in everything.
    if (trimmed.length >= 5) {
      this.#canaries.add(trimmed.toLowerCase());
    }
  }

  get canaryCount() {
    return this.#canaries.size;
  }

  /** Checks title, address and storage of a page, and its text too unless it may show patients. */
  async page(page, name, { showsPatients }) {
    const kept = await page.evaluate(() => ({
      title: document.title,
      storage: JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]),
      text: document.body.innerText,
    }));
    this.#remember(`the title of ${name}`, kept.title);
    this.#remember(`the address of ${name}`, page.url());
    this.#remember(`the browser's storage at ${name}`, kept.storage);
    if (!showsPatients) {
      this.#remember(`the text of ${name}`, kept.text);
    }
  }

  /** Everything remembered, as one text, for a search from outside. */
  get places() {
    return this.#places.map(({ where, text }) => `== ${where}\n${text}\n`).join('');
  }

  /** Looks for every canary in everything remembered. At the end, when all canaries are known. */
  finish() {
    for (const { where, text } of this.#places) {
      if ([...this.#canaries].some((canary) => text.includes(canary))) {
        this.#report(`something about a patient is in ${where}`);
      }
    }
    return this.problems;
  }

  #isEhr(url) {
    return this.#ehr && new URL(url).origin === this.#ehr;
  }

  #requested(url) {
    if (this.#isEhr(url)) {
      return;
    }
    if (!url.startsWith('data:') && new URL(url).origin !== this.#origin) {
      this.#report(`another origin was asked: ${new URL(url).origin}`);
    }
    this.#remember('an address that was requested', url);
  }

  #answered(response) {
    if (this.#isEhr(response.url())) {
      return;
    }
    const path = new URL(response.url()).pathname;
    if (response.status() >= 500) {
      this.#report(`${path} answered ${response.status()}`);
    }
    if (response.request().resourceType() !== 'document') {
      return;
    }
    const headers = response.headers();
    const policy = headers['content-security-policy'] ?? '';
    if (!/default-src 'none'|default-src 'self'/.test(policy) || policy.includes('unsafe')) {
      this.#report(`${path} has no strict Content-Security-Policy`);
    }
    if (!(headers['cache-control'] ?? '').includes('no-store')) {
      this.#report(`${path} may be stored by the browser`);
    }
  }

  #remember(where, text) {
    let decoded = text;
    try {
      decoded = decodeURIComponent(text.replaceAll('+', ' '));
    } catch {
      // Not encoded, then.
    }
    this.#places.push({ where, text: `${text}\n${decoded}`.toLowerCase() });
  }

  #report(problem) {
    if (this.problems.length < REPORTS_MAX && !this.problems.includes(problem)) {
      this.problems.push(problem);
    }
  }
}
