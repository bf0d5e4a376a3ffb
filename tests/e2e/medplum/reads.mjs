// Reads one patient's appointments as an agent, through Chaperone, and asks the EHR itself how many there
// are: an answer that is empty because the two do not understand each other looks like any other.
//
// Inputs, by environment: CHAPERONE_TEST_MEDPLUM, CHAPERONE_URL, CHAPERONE_AGENT, CHAPERONE_AGENT_KEY,
// CHAPERONE_DISPATCHER, CHAPERONE_DISPATCHER_KEY (files with Ed25519 keys, PEM) and CHAPERONE_KEY_ID.
// Exits with 1 when the numbers differ. For synthetic data.

import { createPrivateKey, randomUUID, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';

const INTENT = 'schedule-appointment';
const {
  CHAPERONE_TEST_MEDPLUM: ehr,
  CHAPERONE_URL: chaperone,
  CHAPERONE_AGENT: agent,
  CHAPERONE_AGENT_KEY: agentKey,
  CHAPERONE_DISPATCHER: dispatcher,
  CHAPERONE_DISPATCHER_KEY: dispatcherKey,
  CHAPERONE_KEY_ID: kid,
} = process.env;

function stop(text) {
  console.error(`reads: ${text}`);
  process.exit(1);
}

async function json(what, url, options) {
  const response = await fetch(url, options);
  const answer = await response.json();
  // Only a code of ours is told, nothing of a record.
  return response.ok ? answer : stop(`${what} answered ${response.status} ${answer.code ?? answer.error ?? ''}`);
}

/** A signed assertion of who asks (RFC 7523). */
function assertion(name, keyFile) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: name, sub: name, aud: `${chaperone}/oauth/token`, iat: now, exp: now + 120, jti: randomUUID() };
  const signed = `${part({ alg: 'EdDSA', kid, typ: 'JWT' })}.${part(claims)}`;
  const key = createPrivateKey(readFileSync(keyFile));
  return `${signed}.${sign(null, Buffer.from(signed), key).toString('base64url')}`;
}

async function token(name, keyFile, scope, grant) {
  const form = new URLSearchParams({
    grant_type: 'client_credentials',
    client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
    client_assertion: assertion(name, keyFile),
    scope,
    ...(grant ? { authorization_details: JSON.stringify([{ type: 'chaperone_context', grant }]) } : {}),
  });
  const answer = await json('the token endpoint', `${chaperone}/oauth/token`, { method: 'POST', body: form });
  return { authorization: `Bearer ${answer.access_token}`, 'content-type': 'application/json' };
}

// A patient who has appointments ahead, and how many, as the EHR itself says.
const ahead = `date=ge${new Date().toISOString()}`;
const { entry = [] } = await json('the EHR', `${ehr}/Appointment?${ahead}`);
const [reference] = entry.flatMap(({ resource }) =>
  resource.participant.map(({ actor }) => actor?.reference).filter((actor) => actor?.startsWith('Patient/'))
);
if (!reference) {
  stop('the EHR knows no appointment ahead');
}
const { total } = await json('the EHR', `${ehr}/Appointment?patient=${reference}&${ahead}`);
const { identifier } = await json('the EHR', `${ehr}/${reference}`);
const [{ system, value }] = identifier;

const { grant } = await json('the grant endpoint', `${chaperone}/v1/grants`, {
  method: 'POST',
  headers: await token(dispatcher, dispatcherKey, 'dispatch'),
  body: JSON.stringify({ agent, intent: INTENT, patient: { system, value } }),
});
const { resources } = await json('list_appointments', `${chaperone}/v1/tools/list_appointments`, {
  method: 'POST',
  headers: await token(agent, agentKey, `intent/${INTENT}`, grant),
  body: '{}',
});
console.log(`reads: ${resources.length} of ${total} appointments were released`);
if (resources.length !== total) {
  stop('Chaperone and the EHR do not agree on how many there are');
}
if (JSON.stringify(resources).includes(reference.split('/')[1]) || JSON.stringify(resources).includes(value)) {
  stop('an identifier of the patient was released');
}
