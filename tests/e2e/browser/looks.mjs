// How a page looks and whether everybody can use it: a picture and an axe-core run at each width, in light
// and dark, and no sideways scrolling. Start at `Looks`.

import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** Findings of these impacts fail the test; the others are told. */
const FAILING = ['serious', 'critical'];

const VIEWS = [
  { name: '1280', width: 1280, height: 800, colorScheme: 'light' },
  { name: '390', width: 390, height: 844, colorScheme: 'light' },
  { name: '1280-dark', width: 1280, height: 800, colorScheme: 'dark' },
];

export class Looks {
  #sessions = new WeakMap();
  problems = [];
  remarks = [];
  #folder;

  constructor(folder) {
    this.#folder = folder;
  }

  /** Looks at a page in every view and leaves it in the first. */
  async at(page, name) {
    for (const view of VIEWS) {
      await this.#show(page, view);
      await this.#sideways(page, `${name} at ${view.name}`);
      await this.#accessible(page, `${name} at ${view.name}`);
      await page.screenshot({ path: join(this.#folder, `${name}-${view.name}.png`), fullPage: true });
    }
    await this.#show(page, VIEWS[0]);
  }

  async #show(page, { width, height, colorScheme }) {
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    await page.setViewportSize({ width, height });
    // Two frames: one to lay out, one to paint.
    await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  }

  async #sideways(page, where) {
    const over = await page.evaluate(() => document.scrollingElement.scrollWidth - window.innerWidth);
    if (over > 0) {
      this.problems.push(`${where}: scrolls sideways by ${over} px`);
    }
  }

  /** One for each page, kept: ending any session of a page takes its virtual authenticators away. */
  async #sessionOf(page) {
    if (!this.#sessions.has(page)) {
      this.#sessions.set(page, await page.context().newCDPSession(page));
    }
    return this.#sessions.get(page);
  }

  async #accessible(page, where) {
    // Through the debugging protocol: the page's own policy rightly refuses scripts that are put into it.
    const session = await this.#sessionOf(page);
    await session.send('Runtime.evaluate', { expression: `if (!window.axe) { ${AXE} }` });
    const { result, exceptionDetails } = await session.send('Runtime.evaluate', {
      expression: `axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => JSON.stringify(
        violations.map(({ id, impact, help, nodes }) => ({ id, impact, help, at: nodes.map((node) => node.target.join(' ')) }))))`,
      awaitPromise: true,
      returnByValue: true,
    });
    if (exceptionDetails) {
      this.problems.push(`${where}: axe-core could not run`);
      return;
    }
    for (const { id, impact, help, at } of JSON.parse(result.value)) {
      const list = FAILING.includes(impact) ? this.problems : this.remarks;
      list.push(`${where}: ${impact} ${id} (${help}) at ${at.slice(0, 3).join(', ')}${at.length > 3 ? ', …' : ''}`);
    }
  }
}
