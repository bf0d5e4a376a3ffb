// Drives a running console with Chromium as a clinician would: sign in, open the inbox, read a proposal,
// give a second factor, approve, see it delivered, check the ledger, sign out. Then, where somebody else may undo it,
// they do: see what would be done, give a code, and watch until what undoes it waits for people.
//
// Inputs, by environment:
//   BASE_URL        where Chaperone is, without /console
//   ACCOUNT, PASSWORD, TOTP_SECRET   an account with a proposal that waits for its second factor
//   UNDO_ACCOUNT, UNDO_PASSWORD, UNDO_TOTP_SECRET   optional: an account that may undo what was delivered
//   STATE_FILE      optional: the demo's state file; with it, people come from the EHR, and several decide with passkeys
//   CANARIES        optional: further texts about patients, one a line, that must not leak
//   PLACES          optional: a file for everything in which nothing about a patient may be found
//   CI_ARTIFACTS    optional: where pictures go (target/e2e-artifacts otherwise)
//   CHROMIUM        optional: the browser (/usr/bin/chromium otherwise)
//   CHAPERONE_E2E_WITHIN_S   optional: a simple case that takes longer is a failure
//
// Exits with 0 when everything held, 1 when something did not, 69 when something is missing.
// Start at `main`; each step of the way is one function. What must hold on every page is in watch.mjs.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { chromium } from 'playwright-core';

import {
  VirtualKey,
  addPasskey,
  approveWithCode,
  approveWithPasskey,
  decideSimpleCase,
  formToApprove,
  isRefusedTheOtherHalf,
  openWaiting,
  readToItsEnd,
  secondAccountOf,
  signInAs,
  signOutAgain,
} from './factors.mjs';
import { comeFromEhr, isTurnedAway } from './launch.mjs';
import { Looks } from './looks.mjs';
import { Authenticator } from './totp.mjs';
import { Watch } from './watch.mjs';

const STEP_MS_MAX = 15_000;
const DELIVERY_MS_MAX = 60_000;
const QUESTIONS = ['What changes', 'For whom', 'Why', 'What was checked, and what was not', 'What happens if it is approved'];
const NOT_ABOUT_ANYBODY = ['none recorded', 'could not be read'];

function missing(text) {
  console.error(`e2e-browser: ${text}`);
  process.exit(69);
}

function inputs() {
  const required = ['BASE_URL', 'ACCOUNT', 'PASSWORD', 'TOTP_SECRET'];
  const absent = required.filter((name) => !process.env[name]);
  if (absent.length > 0) {
    missing(`set ${absent.join(', ')}; scripts/e2e-browser does`);
  }
  const browser = process.env.CHROMIUM ?? '/usr/bin/chromium';
  if (!existsSync(browser)) {
    missing(`there is no browser at ${browser}. Install it (on Debian: apt-get install -y chromium) or name it in CHROMIUM.`);
  }
  const root = fileURLToPath(new URL('../../..', import.meta.url));
  return {
    baseUrl: process.env.BASE_URL.replace(/\/$/, ''),
    account: process.env.ACCOUNT,
    password: process.env.PASSWORD,
    authenticator: new Authenticator(process.env.TOTP_SECRET),
    undoes: process.env.UNDO_ACCOUNT && {
      account: process.env.UNDO_ACCOUNT,
      password: process.env.UNDO_PASSWORD,
      authenticator: new Authenticator(process.env.UNDO_TOTP_SECRET),
    },
    canaries: (process.env.CANARIES ?? '').split('\n').filter(Boolean),
    artifacts: process.env.CI_ARTIFACTS ?? join(root, 'target', 'e2e-artifacts'),
    browser,
  };
}

/** What every step works with. */
class Visit {
  constructor(page, input, watch, looks) {
    Object.assign(this, { page, input, watch, looks });
  }

  open(path) {
    return this.page.goto(`${this.input.baseUrl}${path}`);
  }

  heading(name) {
    return this.page.getByRole('heading', { name });
  }

  /** Looks at the page everywhere and checks what it keeps. */
  async look(name, { showsPatients = false } = {}) {
    await this.looks.at(this.page, name);
    await this.watch.page(this.page, name, { showsPatients });
  }
}

async function signIn(visit) {
  const { page, input } = visit;
  const submit = async (password, code) => {
    await page.getByRole('textbox', { name: 'Account' }).fill(input.account);
    await page.getByLabel('Password').fill(password);
    if (code) {
      await page.getByLabel('Code').fill(code);
    }
    await page.getByRole('button', { name: 'Sign in' }).click();
  };

  await visit.open('/console');
  await visit.heading('Sign in').waitFor();
  await visit.look('sign-in');
  await submit(`not ${input.password}`);
  await page.getByRole('alert').waitFor();
  assert.equal(await page.getByRole('navigation', { name: 'Pages' }).count(), 0, 'a wrong password signed in');

  await submit(input.password);
  const inbox = visit.heading('Inbox');
  await inbox.or(page.getByRole('alert')).waitFor();
  if (!(await inbox.isVisible())) {
    await submit(input.password, await input.authenticator.next());
  }
  await inbox.waitFor();
}

/** Opens the proposal that waits for a second factor; answers its address. */
async function openProposal(visit) {
  const { page } = visit;
  const list = page.getByRole('region', { name: 'Proposals that wait' });
  const row = list.getByRole('listitem').filter({ hasText: 'second factor' }).first();
  await row.waitFor().catch(async () => {
    const all = await list.getByRole('listitem').count();
    throw new Error(`none of the ${all} proposals in the inbox waits for a second factor of ${visit.input.account}`);
  });
  await visit.look('inbox', { showsPatients: true });

  await page.keyboard.press('j');
  const focused = await page.evaluate(() => document.activeElement?.matches('a[data-row]'));
  assert.ok(focused, 'the key j does not move to the first proposal');
  await page.keyboard.press('?');
  await page.getByRole('dialog', { name: 'Keys' }).waitFor();
  await page.keyboard.press('Escape');

  await row.locator('a[data-row]').click();
  await visit.heading('Proposal of').waitFor();
  return new URL(page.url()).pathname;
}

async function readReview(visit) {
  const { page, watch } = visit;
  const headings = await page.getByRole('heading', { level: 2 }).allInnerTexts();
  const answered = QUESTIONS.map((question) => headings.indexOf(question));
  assert.deepEqual(answered, [...answered].sort((a, b) => a - b), 'the five questions are out of order');
  assert.ok(!answered.includes(-1), `not every question is answered: ${headings.join(', ')}`);

  const coded = page.locator('#coded');
  if ((await coded.getAttribute('open')) === null) {
    await page.keyboard.press('c');
  }
  const changed = coded.locator('del, ins');
  await changed.first().waitFor();
  assert.notEqual(await page.locator('#change .change').innerText(), '', 'the change is not told in words');

  const patient = page.getByRole('region', { name: 'For whom' });
  const header = await patient.locator('.patient').innerText();
  const shown = [
    await patient.locator('.patient b').innerText(),
    ...(header.match(/\d{4}-\d{2}-\d{2}/g) ?? []),
    ...(await patient.locator('dd').allInnerTexts()),
  ];
  const texts = shown.flatMap((text) => text.split('\n')).filter((text) => !NOT_ABOUT_ANYBODY.includes(text.trim()));
  texts.forEach((text) => watch.addCanary(text));
  assert.ok(watch.canaryCount > 0, 'the review names no patient, so nothing can be watched for');
  await visit.look('review', { showsPatients: true });
}

/** The button of a grave change works once the end of the change was on the screen. */
async function beginApproval(visit) {
  const { page } = visit;
  await readToItsEnd(page);
  const over = page.getByLabel('A rule warns of this');
  if ((await over.count()) > 0) {
    assert.ok(await over.evaluate((it) => it.validity.valueMissing), 'no reason is asked for');
    await over.selectOption('looked-up');
  }
  await page.getByRole('button', { name: 'Approve, with second factor' }).click();
  await visit.heading('Second factor').waitFor();
  await visit.look('step-up', { showsPatients: true });
}

async function stepUp(visit, review) {
  const { page, input } = visit;
  const code = page.getByLabel('Code from your authenticator app');
  const approve = page.getByRole('button', { name: 'Approve' });

  await code.fill(input.authenticator.wrong());
  await approve.click();
  await page.getByRole('alert').waitFor();
  await visit.look('step-up-refused', { showsPatients: true });
  await visit.heading('Second factor').waitFor();

  await code.fill(await input.authenticator.next());
  await approve.click();
  await page.waitForURL((url) => url.pathname === review);
  await page.getByRole('status').filter({ hasText: 'Approved' }).waitFor();
}

/** The page tells of the delivery by itself: it is not loaded again here. */
async function seeDelivered(visit) {
  const { page } = visit;
  const state = page.locator('#state-words').filter({ hasText: /^delivered$/ });
  await state.waitFor({ timeout: DELIVERY_MS_MAX });
  await page.getByRole('region', { name: 'Timeline' }).getByText(/deliver/i).first().waitFor();
  assert.equal(await page.getByRole('button', { name: /^Approve/ }).count(), 0, 'it can be approved again');
  await visit.look('delivered', { showsPatients: true });
  const receipt = page.getByRole('link', { name: 'Receipt' });
  await receipt.waitFor();
}

async function checkLedger(visit) {
  const { page } = visit;
  await visit.open('/console/ledger');
  await visit.heading('Ledger').waitFor();
  await visit.look('ledger');
  await page.locator('#entries a[data-row]').first().click();
  await page.waitForURL(/\/console\/ledger\/\d+$/);
  await visit.look('ledger-entry');
  await page.goBack();
  await page.getByRole('button', { name: 'Verify the ledger' }).click();
  await visit.heading('The ledger verifies').waitFor({ timeout: DELIVERY_MS_MAX });
  await visit.look('ledger-verified');
}

async function walkAround(visit) {
  const places = [
    ['/console/patients', 'Patients', 'patients', true],
    ['/console/agents', 'Agents', 'agents', false],
    ['/console/assign', 'Assign', 'assign', false],
    ['/console/modes', 'Modes', 'modes', false],
    ['/console/health', 'Health', 'health', false],
  ];
  for (const [path, heading, name, showsPatients] of places) {
    await visit.open(path);
    await visit.heading(heading).first().waitFor();
    await visit.look(name, { showsPatients });
  }
}

async function signOut(visit, review) {
  const { page } = visit;
  await page.getByRole('button', { name: 'Sign out' }).click();
  await visit.heading('Sign in').waitFor();
  for (const leave of [() => page.goBack(), () => visit.open(review)]) {
    await leave();
    assert.equal(await visit.heading('Proposal of').count(), 0, 'a review is shown after signing out');
    assert.equal(await page.getByRole('navigation', { name: 'Pages' }).count(), 0, 'a page is shown after signing out');
  }
}

/** Somebody who may signs in; an administrator's sign-in takes a code. */
async function signInToUndo(visit) {
  const { page, input } = visit;
  const { account, password, authenticator } = input.undoes;
  const submit = async (code) => {
    await page.getByRole('textbox', { name: 'Account' }).fill(account);
    await page.getByLabel('Password').fill(password);
    if (code) {
      await page.getByLabel('Code').fill(code);
    }
    await page.getByRole('button', { name: 'Sign in' }).click();
  };
  await visit.open('/console');
  await visit.heading('Sign in').waitFor();
  await submit();
  const inbox = visit.heading('Inbox');
  await inbox.or(page.getByRole('alert')).waitFor();
  if (!(await inbox.isVisible())) {
    await submit(await authenticator.next());
  }
  await inbox.waitFor();
}

/** Undoes what was delivered: shown first, started with a reason and a code, watched without loading it again. */
async function undoDelivered(visit, review) {
  const { page, input } = visit;
  await page.getByRole('link', { name: 'Undo', exact: true }).click();
  await visit.heading('What went wrong?').waitFor();
  await visit.look('undo');
  await page.getByLabel('One write-back').fill(review.split('/').at(-1));
  await page.getByRole('button', { name: 'Show what would be done' }).click();
  const plan = page.getByRole('region', { name: /^What would be done/ });
  await plan.getByText('second factor').first().waitFor();
  await visit.look('undo-plan');

  const start = async (code) => {
    await page.getByLabel('Reason').fill('It was approved for the wrong visit.');
    await page.getByLabel('Code from your authenticator app').fill(code);
    await page.getByRole('button', { name: 'Undo', exact: true }).click();
  };
  await start(input.undoes.authenticator.wrong());
  await page.getByRole('alert').waitFor();
  await start(await input.undoes.authenticator.next());
  await visit.heading('Undo run').waitFor();
  await page.locator('#effects').getByText('What undoes it: waits for approval').waitFor({ timeout: DELIVERY_MS_MAX });
  await visit.look('undo-run');
}

/** People of the demo by account; what signs in is their own. */
function peopleOf(file) {
  const { accounts } = JSON.parse(readFileSync(file, 'utf8'));
  return Object.fromEntries(
    accounts.map(({ account, password, totp_secret: secret }) => [
      account,
      { account, password, authenticator: new Authenticator(secret) },
    ]),
  );
}

/** Passkeys, a simple case in seconds, and an order that two people decide. */
async function peopleDecide(visit, say) {
  const people = peopleOf(process.env.STATE_FILE);
  const clinician = people['clinician-3'];
  say('decide a simple case');
  await signInAs(visit, clinician);
  const { seconds, within, usable, interactions } = await decideSimpleCase(visit);
  const bound = within === null ? 'no bound on the time is enforced' : `${within} s are enforced`;
  console.log(`e2e-browser: a simple case took ${seconds.toFixed(1)} s and ${interactions} interactions (${bound}); it could be decided after ${usable.toFixed(1)} s`);
  say('add a passkey');
  // Signing in and out leaves the page's process behind, and with it any authenticator that was added before.
  const key = await VirtualKey.in(visit.page);
  await addPasskey(visit, clinician, key);
  say('approve the first half with a passkey');
  const review = await openWaiting(visit, 'two people');
  const sent = await formToApprove(visit.page);
  await approveWithPasskey(visit, key, review);
  await signOutAgain(visit);
  say('try the second half under a second account');
  await secondAccountOf(visit, visit.input.undoes, clinician.account, 'pharmacist-too', ['pharmacist']);
  await isRefusedTheOtherHalf(visit, review, sent);
  await signOutAgain(visit);
  say('approve the second half as another person');
  await signInAs(visit, people.pharmacist);
  await openWaiting(visit, 'two people');
  await approveWithCode(visit, people.pharmacist, review);
  await signOutAgain(visit);
}

/** Browsers bind passkeys to names of hosts: the same demo under its name, in a context of its own. */
async function withNames(browser, input, looks, failed, say) {
  const baseUrl = input.baseUrl.replace('127.0.0.1', 'localhost');
  const context = await browser.newContext({ locale: 'en-GB', timezoneId: 'UTC' });
  context.setDefaultTimeout(STEP_MS_MAX);
  const watch = new Watch(context, baseUrl, input.canaries);
  const visit = new Visit(await context.newPage(), { ...input, baseUrl }, watch, looks);
  try {
    await peopleDecide(visit, say);
  } catch (error) {
    failed.push(`${error.message}`);
    await visit.page.screenshot({ path: join(input.artifacts, 'failure-people.png'), fullPage: true }).catch(() => {});
  }
  return watch;
}

/** From the EHR's button, in a browser in which nobody is signed in. */
async function fromEhr(browser, input, looks, failed, say) {
  const { launch } = JSON.parse(readFileSync(process.env.STATE_FILE, 'utf8'));
  const context = await browser.newContext({ locale: 'en-GB', timezoneId: 'UTC' });
  context.setDefaultTimeout(STEP_MS_MAX);
  const watch = new Watch(context, input.baseUrl, input.canaries, launch.issuer);
  const visit = new Visit(await context.newPage(), input, watch, looks);
  try {
    say('come from the EHR');
    await comeFromEhr(visit, launch);
    say('be turned away');
    await isTurnedAway(visit, launch);
  } catch (error) {
    failed.push(`from the EHR: ${error.message}`);
    await visit.page.screenshot({ path: join(input.artifacts, 'failure-launch.png'), fullPage: true }).catch(() => {});
  }
  return watch;
}

async function main() {
  const input = inputs();
  mkdirSync(input.artifacts, { recursive: true });
  const browser = await chromium.launch({
    executablePath: input.browser,
    // Chromium's own sandbox does not work for root; the pages are ours.
    args: process.getuid?.() === 0 ? ['--no-sandbox'] : [],
  });
  const context = await browser.newContext({ locale: 'en-GB', timezoneId: 'UTC' });
  context.setDefaultTimeout(STEP_MS_MAX);
  const watch = new Watch(context, input.baseUrl, input.canaries);
  const looks = new Looks(input.artifacts);
  const visit = new Visit(await context.newPage(), input, watch, looks);
  const failed = [];
  let step = '';
  const say = (name) => {
    step = name;
    console.log(`e2e-browser: ${name}`);
  };
  try {
    say('sign in');
    await signIn(visit);
    say('open a proposal');
    const review = await openProposal(visit);
    say('read it');
    await readReview(visit);
    say('begin to approve');
    await beginApproval(visit);
    say('give the second factor');
    await stepUp(visit, review);
    say('see it delivered');
    await seeDelivered(visit);
    say('check the ledger');
    await checkLedger(visit);
    say('walk around');
    await walkAround(visit);
    say('sign out');
    await signOut(visit, review);
    if (input.undoes) {
      say('sign in to undo it');
      await signInToUndo(visit);
      say('undo it');
      await undoDelivered(visit, review);
    }
  } catch (error) {
    failed.push(`could not ${step}: ${error.message}`);
    await visit.page.screenshot({ path: join(input.artifacts, 'failure.png'), fullPage: true }).catch(() => {});
  }
  const others = [];
  if (process.env.STATE_FILE) {
    others.push(await fromEhr(browser, input, looks, failed, say));
    others.push(await withNames(browser, input, looks, failed, say));
  }
  await browser.close();

  if (process.env.PLACES) {
    writeFileSync(process.env.PLACES, [watch, ...others].map(({ places }) => places).join(''));
  }
  const problems = [...failed, ...watch.finish(), ...others.flatMap((other) => other.finish()), ...looks.problems];
  writeFileSync(join(input.artifacts, 'browser.json'), JSON.stringify({ problems, remarks: looks.remarks }, null, 2));
  looks.remarks.forEach((remark) => console.log(`e2e-browser: worth a look: ${remark}`));
  problems.forEach((problem) => console.error(`e2e-browser: ${problem}`));
  console.log(`e2e-browser: ${problems.length} problems; pictures in ${input.artifacts}`);
  process.exit(problems.length > 0 ? 1 : 0);
}

await main();
