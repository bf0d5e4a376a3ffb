// Coming from inside the EHR: the sandbox's button leads by one click to what waits for the patient who is open there;
// a link that names another EHR leads nowhere.
//
// Start at `comeFromEhr`.

import assert from 'node:assert/strict';

/** The sandbox's button, pressed by somebody who has a patient open. */
function button({ button: address, patient }, user) {
  const url = new URL(address);
  url.searchParams.set('user', user);
  url.searchParams.set('patient', patient);
  return url.href;
}

const signedIn = (visit) => visit.page.getByRole('navigation', { name: 'Pages' }).count();

/** Through the EHR's authorization server, one click, and to the open patient's waiting work. */
export async function comeFromEhr(visit, launch) {
  const { page } = visit;
  await page.goto(button(launch, launch.user));
  const goOn = page.getByRole('button', { name: `Go on as ${launch.account}` });
  await goOn.waitFor();
  assert.equal(await signedIn(visit), 0, 'a link alone signs somebody in');
  await visit.look('launch');
  const returned = page.url();
  await goOn.click();
  await page.waitForURL(/\/console\/patients\/pat_[^/]+$/);
  assert.equal(await signedIn(visit), 1, 'nobody is signed in after the click');
  await visit.look('launch-queue', { showsPatients: true });
  await page.locator('a[href^="/console/writebacks/wb_"]').first().click();
  await visit.heading('Proposal of').waitFor();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await visit.heading('Sign in').waitFor();

  await page.goto(returned);
  await page.getByText('This launch was used').waitFor();
  assert.equal(await signedIn(visit), 0, 'a launch counts twice');
}

/** Somebody whom nobody linked, and links that name another EHR, or nearly this one. */
export async function isTurnedAway(visit, launch) {
  const { page } = visit;
  await page.goto(button(launch, `${launch.user}-too`));
  await page.getByText('No account here is linked to your user in the EHR').waitFor();
  assert.equal(await signedIn(visit), 0, 'somebody comes in whom nobody linked');
  for (const issuer of [`${launch.issuer}/other`, 'https://ehr.example/fhir', '']) {
    const link = new URLSearchParams({ iss: issuer, launch: 'xyz' });
    await visit.open(`/console/launch?${link}`);
    const words = issuer === '' ? 'not of the form that a launch has' : 'not connected here';
    await page.getByText(words).waitFor();
    assert.equal(new URL(page.url()).pathname, '/console/launch', `the link of ${issuer} leads on`);
    assert.equal(await signedIn(visit), 0, 'a link of another EHR signs somebody in');
  }
  await visit.look('launch-refused');
}
