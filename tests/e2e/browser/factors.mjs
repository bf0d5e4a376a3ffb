// People deciding: a passkey of the browser's own (a virtual authenticator) set up and used, a simple case decided in
// seconds and not sooner than it can be read, and two people for one order.
//
// Not here: the way of one clinician through the console (run.mjs). Start at `addPasskey`.

import assert from 'node:assert/strict';

const READ_SECONDS_MIN = 2;

/** How long a simple case may take, where somebody asks: how fast a machine is depends on what else it does. */
function secondsAllowed() {
  const text = process.env.CHAPERONE_E2E_WITHIN_S;
  if (!text) {
    return null;
  }
  const seconds = Number(text);
  assert.ok(seconds > 0, 'CHAPERONE_E2E_WITHIN_S is not a number of seconds');
  return seconds;
}

/** Signs in with a password, and with a code where one is asked for. */
export async function signInAs(visit, { account, password, authenticator }) {
  const { page } = visit;
  const submit = async (code) => {
    await page.getByRole('textbox', { name: 'Account' }).fill(account);
    await page.getByLabel('Password').fill(password);
    if (code) {
      await page.getByLabel('Code').fill(code);
    }
    await page.getByRole('button', { name: 'Sign in' }).click();
  };
  await visit.open('/console/sign-in');
  await submit();
  const inbox = visit.heading('Inbox');
  await inbox.or(page.getByRole('alert')).waitFor();
  if (!(await inbox.isVisible())) {
    await submit(await authenticator.next());
  }
  await inbox.waitFor();
}

export async function signOutAgain(visit) {
  await visit.page.getByRole('button', { name: 'Sign out' }).click();
  await visit.heading('Sign in').waitFor();
}

/** An authenticator inside the browser that verifies its holder until it is told not to. */
export class VirtualKey {
  #session;
  #id;

  /** A page has one of each transport at most. */
  static async in(page, transport = 'internal') {
    const key = new VirtualKey();
    key.#session = await page.context().newCDPSession(page);
    await key.#session.send('WebAuthn.enable');
    const options = {
      protocol: 'ctap2',
      transport,
      hasResidentKey: true,
      hasUserVerification: true,
      isUserVerified: true,
      automaticPresenceSimulation: true,
    };
    const { authenticatorId } = await key.#session.send('WebAuthn.addVirtualAuthenticator', { options });
    key.#id = authenticatorId;
    return key;
  }

  verify(isUserVerified) {
    return this.#session.send('WebAuthn.setUserVerified', { authenticatorId: this.#id, isUserVerified });
  }

  async count() {
    const { credentials } = await this.#session.send('WebAuthn.getCredentials', { authenticatorId: this.#id });
    return credentials.length;
  }
}

/** Adds a passkey on the account page, confirmed with a code. */
export async function addPasskey(visit, person, key) {
  const { page } = visit;
  await page.getByRole('link', { name: person.account, exact: true }).click();
  await visit.heading('Your account').waitFor();
  await page.getByRole('button', { name: 'Add a passkey' }).click();
  await visit.heading('Confirm that it is you').waitFor();
  await page.getByLabel('Code from your authenticator app').fill(await person.authenticator.next());
  await page.getByRole('button', { name: 'Confirm with code' }).click();
  await visit.heading('Add a passkey').waitFor();
  await visit.look('passkey-add');
  await page.getByLabel('Name of the passkey').fill('Ward computer');
  await page.getByRole('button', { name: 'Add this passkey' }).click();
  await page.getByRole('status').filter({ hasText: 'The passkey is set up' }).waitFor();
  await page.getByText('Ward computer').waitFor();
  assert.equal(await key.count(), 1, 'the browser has no passkey');
  await visit.look('account');
}

/** Brings the end of the change into view, until a grave one counts as read. */
export async function readToItsEnd(page) {
  await page.locator('#change-end').evaluate((end) => end.scrollIntoView({ block: 'center' }));
  await page.locator('#gate-note').waitFor({ state: 'hidden' });
}

/** Opens the first waiting proposal whose line has a text, and picks a reason where a rule warns. */
export async function openWaiting(visit, hasText) {
  const { page } = visit;
  await visit.open('/console');
  const list = page.getByRole('region', { name: 'Proposals that wait' });
  const row = list.getByRole('listitem').filter({ hasText }).first();
  await row.locator('a[data-row]').click();
  await visit.heading('Proposal of').waitFor();
  await readToItsEnd(page);
  await pickReason(page);
  return new URL(page.url()).pathname;
}

async function pickReason(page) {
  const over = page.getByLabel('A rule warns of this');
  if ((await over.count()) > 0) {
    await over.selectOption('looked-up');
  }
}

/** Approves with the passkey: not while the device does not verify its holder, then by one button and no code. */
export async function approveWithPasskey(visit, key, review) {
  const { page } = visit;
  await page.getByRole('button', { name: 'Approve, with second factor' }).click();
  await visit.heading('Second factor').waitFor();
  await visit.look('step-up-passkey', { showsPatients: true });
  const approve = page.getByRole('button', { name: 'Approve with passkey' });
  await key.verify(false);
  await approve.click();
  await page.getByRole('alert').waitFor();
  assert.notEqual(new URL(page.url()).pathname, review, 'a device that verified nobody approved');
  await key.verify(true);
  await approve.click();
  await page.waitForURL((url) => url.pathname === review);
  await page.getByRole('status').filter({ hasText: /pprov/ }).waitFor();
  await page.getByText('with a passkey').first().waitFor();
}

/** What the server says when a decision is sent without the page's own delay, and whether the page offers it then. */
async function sentAtOnce(page) {
  return page.evaluate(async () => {
    const { disabled, form } = document.querySelector('#approve');
    const body = new URLSearchParams(new FormData(form));
    const answer = await fetch(form.action, { method: 'POST', body });
    return { disabled, status: answer.status, text: await answer.text() };
  });
}

/** A simple case with the keyboard alone. Answers seconds, those that are allowed, and interactions. */
export async function decideSimpleCase(visit) {
  const { page } = visit;
  const list = page.getByRole('region', { name: 'Proposals that wait' });
  const row = list.getByRole('listitem').filter({ hasNotText: 'second factor' }).filter({ hasNotText: 'two people' }).first();
  await row.waitFor();
  await row.locator('a[data-row]').focus();

  const within = secondsAllowed();
  const began = Date.now();
  let interactions = 0;
  const press = async (key) => {
    interactions += 1;
    await page.keyboard.press(key);
  };
  await press('Enter');
  await visit.heading('Proposal of').waitFor();
  const { disabled, status, text } = await sentAtOnce(page);
  assert.equal(status, 409, 'a decision was taken before the change could be read');
  assert.ok(text.includes('Read it first'), 'the refusal does not say why');
  assert.ok(disabled, 'approving is offered before the change could be read');
  const over = page.getByLabel('A rule warns of this');
  if ((await over.count()) > 0) {
    interactions += 1;
    await over.selectOption('looked-up');
  }
  await page.locator('#approve:not([disabled])').waitFor();
  // By the page's own clock, which begins with it: when this process is told of it says little.
  const usable = (await page.evaluate(() => performance.now())) / 1000;
  assert.ok(usable >= READ_SECONDS_MIN, `approving is offered after ${usable} s`);
  await page.locator('#approve').focus();
  await press('Enter');
  await page.getByRole('status').filter({ hasText: 'Approved' }).waitFor();
  const seconds = (Date.now() - began) / 1000;
  assert.ok(seconds >= READ_SECONDS_MIN, `decided in ${seconds} s`);
  assert.ok(within === null || seconds <= within, `a simple case took ${seconds} s, and ${within} are allowed`);
  return { seconds, within, usable, interactions };
}

/** What the page would send to approve, as this account sees it. */
export async function formToApprove(page) {
  return page.evaluate(() => {
    const { form } = document.querySelector('#approve');
    return { action: form.action, fields: [...new FormData(form)] };
  });
}

/**
 * Another account of the same person may not give the other half: the page says why, and what the first account sent,
 * sent again from this one, is refused with words that say why.
 */
export async function isRefusedTheOtherHalf(visit, review, { action, fields }) {
  const { page } = visit;
  await visit.open(review);
  await visit.heading('Proposal of').waitFor();
  assert.equal(await page.getByRole('button', { name: /^Approve/ }).count(), 0, 'one person gives both halves');
  await page.getByText('You have approved, with this account or another one of yours').waitFor();
  await visit.look('second-account', { showsPatients: true });
  const { status, text } = await page.evaluate(
    async ({ action, fields }) => {
      const csrf = document.querySelector('input[name="csrf"]').value;
      const body = new URLSearchParams(fields.filter(([name]) => name !== 'csrf').concat([['csrf', csrf]]));
      const read = (answer) => answer.text().then((text) => ({ status: answer.status, text }));
      return read(await fetch(action, { method: 'POST', body }));
    },
    { action, fields },
  );
  assert.equal(status, 403, `the other half is answered with ${status}`);
  assert.ok(text.includes('Two different people must approve'), 'the refusal does not say why');
}

export async function approveWithCode(visit, person, review) {
  const { page } = visit;
  await page.getByRole('button', { name: /^Approve/ }).click();
  const second = visit.heading('Second factor');
  const done = page.getByRole('status').filter({ hasText: /pprov/ });
  await second.or(done).first().waitFor();
  if (await second.isVisible()) {
    await page.getByLabel('Code from your authenticator app').fill(await person.authenticator.next());
    await page.getByRole('button', { name: /^Approve/ }).last().click();
    await page.waitForURL((url) => url.pathname === review);
    await done.first().waitFor();
  }
}

/** An administrator makes another account of somebody; its holder enrols and sets up a passkey as its first factor. */
export async function secondAccountOf(visit, admin, sameAs, name, roles) {
  const { page } = visit;
  await signInAs(visit, admin);
  await visit.open('/console/people');
  await page.getByLabel('Account name').fill(name);
  await page.getByLabel('Same person as').selectOption(sameAs);
  for (const role of roles) {
    await page.locator(`input[name="roles"][value="${role}"]`).check();
  }
  await page.getByRole('button', { name: 'Make the account' }).click();
  const code = await page.locator('#enrolment-code').innerText();
  await signOutAgain(visit);

  const password = 'a second grey morning';
  await visit.open('/console/enrol');
  await page.getByLabel('Account').fill(name);
  await page.getByLabel('Enrolment code').fill(code);
  await page.locator('input[name="password"]').fill(password);
  await page.getByLabel('New password again').fill(password);
  await page.getByRole('button', { name: 'Continue' }).click();
  await visit.heading('Your second factor').waitFor();
  // What was added before may still be there.
  await VirtualKey.in(page, 'usb');
  await page.getByLabel('Name of the passkey').fill('Phone');
  await page.getByRole('button', { name: 'Set up this passkey' }).click();
  await page.getByRole('status').filter({ hasText: 'Your second factor is set up' }).waitFor();
}
