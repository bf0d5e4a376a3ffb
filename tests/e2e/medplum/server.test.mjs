// What this server honours and what it does not, found by trying. README.md says the same in words; the
// delivery profile rests on it. When a test here fails after an upgrade, both must be looked at again.

import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';

import { LoadRefused, load } from './load.mjs';
import { start } from './server.mjs';

const SYSTEM = 'urn:chaperone:writeback';
let server;

before(async () => {
  server = await start();
});
after(() => server.stop());

// A new code in every test keeps what one test wrote out of another's searches.
let topic = 0;
beforeEach(() => {
  topic += 1;
});
const number = (text) => `${topic}-${text}`;

async function call(method, path, { body, headers = {} } = {}) {
  const isForm = body instanceof URLSearchParams;
  const response = await fetch(server.baseUrl + path, {
    method,
    headers: { ...(body && !isForm ? { 'content-type': 'application/fhir+json' } : {}), ...headers },
    body: body === undefined || isForm || typeof body === 'string' ? body : JSON.stringify(body),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, json: JSON.parse(text) };
}

const observation = (value, more = {}) => ({
  resourceType: 'Observation',
  identifier: [{ system: SYSTEM, value: number(value) }],
  status: 'final',
  code: { coding: [{ system: 'http://loinc.org', code: '8867-4' }], text: number('topic') },
  subject: { reference: 'Patient/p1' },
  ...more,
});
const create = (body, condition) =>
  call('POST', `/${body.resourceType}`, { body, headers: condition ? { 'if-none-exist': condition } : {} });
const search = (query) => call('GET', `/Observation?${new URLSearchParams(query)}`);
const byIdentifier = (value) => `${SYSTEM}|${number(value)}`;
const ids = (found) => (found.json.entry ?? []).map((entry) => entry.resource.id);

describe('create', () => {
  test('answers with Location, ETag and a UUID version', async () => {
    const made = await create(observation('a'));
    assert.equal(made.status, 201);
    const { id, meta } = made.json;
    assert.match(meta.versionId, /^[0-9a-f-]{36}$/);
    assert.equal(made.headers.get('etag'), `W/"${meta.versionId}"`);
    assert.equal(made.headers.get('location'), `${server.baseUrl}/Observation/${id}`);
    assert.match(made.headers.get('content-type'), /^application\/fhir\+json/);
  });

  test('with If-None-Exist happens once, also when asked twice at the same time', async () => {
    const condition = `identifier=${byIdentifier('a')}`;
    const answers = await Promise.all([1, 2, 3, 4].map(() => create(observation('a'), condition)));
    const statuses = answers.map((answer) => answer.status).sort();
    assert.deepEqual(statuses, [200, 200, 200, 201]);
    assert.equal(new Set(answers.map((answer) => answer.json.id)).size, 1);
    const other = await create(observation('b'), `identifier=${byIdentifier('b')}`);
    assert.equal(other.status, 201);
  });

  test('with If-None-Exist is refused when two carry the identifier', async () => {
    await create(observation('a'));
    await create(observation('a'));
    const answer = await create(observation('a'), `identifier=${byIdentifier('a')}`);
    assert.equal(answer.status, 412);
    assert.equal((await search({ identifier: byIdentifier('a') })).json.total, 2);
  });

  test('NOT: a condition on an unknown parameter is never met, so it protects nothing', async () => {
    for (const expected of [201, 201]) {
      assert.equal((await create(observation('a'), `nonsense=${byIdentifier('a')}`)).status, expected);
    }
  });

  test('NOT: nothing is validated, and an id that the client gives is kept', async () => {
    const odd = { resourceType: 'Observation', id: number('odd'), status: 'no such status', extra: { a: 1 } };
    assert.equal((await create(odd)).json.id, number('odd'));
    assert.equal((await call('POST', '/Nonsense', { body: { resourceType: 'Nonsense' } })).status, 201);
  });
});

describe('update', () => {
  const put = (body, etag) =>
    call('PUT', `/Observation/${body.id}`, { body, headers: etag ? { 'if-match': etag } : {} });

  test('with a current If-Match is applied, with a stale one refused', async () => {
    const first = await create(observation('a'));
    const etag = first.headers.get('etag');
    const second = await put({ ...first.json, status: 'amended' }, etag);
    assert.equal(second.status, 200);
    assert.notEqual(second.headers.get('etag'), etag);
    const stale = await put({ ...first.json, status: 'cancelled' }, etag);
    assert.equal(stale.status, 412);
    assert.equal((await call('GET', `/Observation/${first.json.id}`)).json.status, 'amended');
  });

  test('with If-Match on nothing is refused', async () => {
    const answer = await put({ ...observation('a'), id: number('none') }, 'W/"x"');
    assert.equal(answer.status, 404);
  });

  test('NOT: without If-Match the last writer wins, and an unknown id is created', async () => {
    const first = await create(observation('a'));
    await put({ ...first.json, status: 'amended' });
    assert.equal((await put({ ...first.json, status: 'cancelled' })).status, 200);
    assert.equal((await put({ ...observation('b'), id: number('new') })).status, 200);
  });

  test('NOT: an If-Match without quotes counts as none', async () => {
    const first = await create(observation('a'));
    assert.equal((await put({ ...first.json, status: 'amended' }, 'no-such-version')).status, 200);
  });
});

describe('history', () => {
  test('keeps versions, each readable', async () => {
    const first = await create(observation('a'));
    const path = `/Observation/${first.json.id}`;
    await call('PUT', path, { body: { ...first.json, status: 'amended' } });
    const old = await call('GET', `${path}/_history/${first.json.meta.versionId}`);
    assert.equal(old.json.status, 'final');
    assert.equal((await call('GET', `${path}/_history/no-such`)).status, 404);
    const history = await call('GET', `${path}/_history`);
    assert.deepEqual(
      history.json.entry.map((entry) => entry.resource.status),
      ['amended', 'final']
    );
  });

  test('NOT: reading it turns the stored order around, so the next answer is not newest first', async () => {
    const first = await create(observation('a'));
    const path = `/Observation/${first.json.id}`;
    await call('PUT', path, { body: { ...first.json, status: 'amended' } });
    await call('GET', `${path}/_history`);
    const again = await call('GET', `${path}/_history`);
    assert.deepEqual(
      again.json.entry.map((entry) => entry.resource.status),
      ['final', 'amended']
    );
  });

  test('NOT: after a delete, both the resource and its versions are 404, not 410', async () => {
    const first = await create(observation('a'));
    const path = `/Observation/${first.json.id}`;
    assert.equal((await call('DELETE', path)).status, 200);
    for (const gone of [path, `${path}/_history`, `${path}/_history/${first.json.meta.versionId}`]) {
      assert.equal((await call('GET', gone)).status, 404, gone);
    }
  });
});

describe('search', () => {
  test('by identifier, by GET and by POST', async () => {
    const made = await create(observation('a'));
    await create(observation('b'));
    assert.deepEqual(ids(await search({ identifier: byIdentifier('a') })), [made.json.id]);
    const form = new URLSearchParams({ identifier: byIdentifier('a'), _count: '5' });
    const posted = await call('POST', '/Observation/_search', { body: form });
    assert.deepEqual([posted.status, posted.json.type, posted.json.total], [200, 'searchset', 1]);
    assert.deepEqual(ids(posted), [made.json.id]);
    const none = await search({ identifier: `urn:other|${number('a')}` });
    assert.deepEqual([none.json.total, none.json.entry], [0, undefined]);
  });

  test('by a whole reference, joined with other parameters', async () => {
    const subject = { reference: `Patient/${number('p')}` };
    const mine = await create(observation('a', { subject }));
    await create(observation('b', { subject, status: 'preliminary' }));
    await create(observation('c'));
    assert.equal((await search({ patient: subject.reference })).json.total, 2);
    assert.deepEqual(ids(await search({ patient: subject.reference, status: 'final' })), [mine.json.id]);
    assert.equal((await search({ subject: subject.reference, code: 'http://loinc.org|8867-4' })).json.total, 2);
    assert.equal((await search({ patient: subject.reference, status: 'final,preliminary' })).json.total, 2);
  });

  test('NOT: a bare id in a reference parameter finds nothing', async () => {
    await create(observation('a', { subject: { reference: `Patient/${number('p')}` } }));
    assert.equal((await search({ patient: number('p') })).json.total, 0);
    assert.equal((await search({ 'subject:Patient': number('p') })).json.total, 0);
  });

  test('by date, repeated parameters meaning and', async () => {
    const subject = { reference: `Patient/${number('p')}` };
    for (const day of ['2026-01-01', '2026-02-01', '2026-03-01']) {
      await create(observation(day, { subject, effectiveDateTime: `${day}T10:00:00Z` }));
    }
    const patient = subject.reference;
    assert.equal((await search({ patient, date: 'ge2026-02-01' })).json.total, 2);
    const both = await search([['patient', patient], ['date', 'ge2026-01-15'], ['date', 'lt2026-02-15']]);
    assert.equal(both.json.total, 1);
    assert.equal((await search({ patient, date: 'not-a-date' })).status, 400);
  });

  test('sorts by one parameter, both ways, and counts', async () => {
    const subject = { reference: `Patient/${number('p')}` };
    const made = {};
    for (const day of ['2026-02-01', '2026-03-01', '2026-01-01']) {
      made[day] = (await create(observation(day, { subject, effectiveDateTime: `${day}T10:00:00Z` }))).json.id;
    }
    const patient = subject.reference;
    const [january, february, march] = Object.keys(made).sort().map((day) => made[day]);
    assert.deepEqual(ids(await search({ patient, _sort: 'date' })), [january, february, march]);
    assert.deepEqual(ids(await search({ patient, _sort: '-date' })), [march, february, january]);
    const one = await search({ patient, _sort: '-date', _count: '1' });
    assert.deepEqual(ids(one), [march]);
  });

  test('NOT: a page that was cut short has no next link, only a total', async () => {
    const subject = { reference: `Patient/${number('p')}` };
    await create(observation('a', { subject }));
    await create(observation('b', { subject }));
    const page = await search({ patient: subject.reference, _count: '1' });
    assert.deepEqual([page.json.total, page.json.entry.length, page.json.link], [2, 1, undefined]);
  });

  test('NOT: an unknown parameter, a chain and an unknown modifier empty the answer, strict or not', async () => {
    const subject = { reference: `Patient/${number('p')}` };
    await create(observation('a', { subject }));
    const patient = subject.reference;
    for (const unknown of [{ nonsense: '1' }, { 'patient.name': 'x' }, { _has: 'x' }, { 'value-quantity': 'gt1' }]) {
      const query = new URLSearchParams({ patient, ...unknown });
      const answer = await call('GET', `/Observation?${query}`, { headers: { prefer: 'handling=strict' } });
      assert.deepEqual([answer.status, answer.json.total], [200, 0], String(query));
    }
  });

  test('NOT: tokens are compared without regard to case, and escapes are not read', async () => {
    await create(observation('CaseD'));
    assert.equal((await search({ identifier: `${SYSTEM}|${number('cased')}` })).json.total, 1);
    await create(observation('a|b'));
    assert.equal((await search({ identifier: `${SYSTEM}|${number('a\\|b')}` })).json.total, 0);
  });

  test('NOT: _include adds nothing and _elements leaves nothing out', async () => {
    const made = await create(observation('a'));
    const found = await search({ identifier: byIdentifier('a'), _include: 'Observation:subject', _elements: 'id' });
    assert.deepEqual(found.json.entry, [{ resource: made.json }]);
  });
});

describe('Provenance', () => {
  test('NOT: a search by target finds only the reference as it was written, version included', async () => {
    const target = `Observation/${number('o')}`;
    for (const reference of [target, `${target}/_history/1`]) {
      await create({ resourceType: 'Provenance', target: [{ reference }], recorded: '2026-01-01T00:00:00Z' });
    }
    const found = await call('GET', `/Provenance?target=${target}`);
    assert.equal(found.json.total, 1);
  });
});

describe('batch and transaction', () => {
  const bundle = (type, entry) => call('POST', '', { body: { resourceType: 'Bundle', type, entry } });
  const entryOf = (resource, request) => ({ resource, request: { method: 'POST', url: resource.resourceType, ...request } });

  test('a batch answers per entry', async () => {
    const answer = await bundle('batch', [
      entryOf(observation('a')),
      { request: { method: 'GET', url: 'Observation/no-such' } },
    ]);
    assert.equal(answer.json.type, 'batch-response');
    assert.deepEqual(
      answer.json.entry.map((entry) => entry.response.status),
      ['201', '404']
    );
  });

  test('a transaction resolves urn:uuid references and honours its conditions', async () => {
    const name = 'urn:uuid:00000000-0000-4000-8000-000000000001';
    const entries = () => [
      { fullUrl: name, ...entryOf(observation('a'), { ifNoneExist: `identifier=${byIdentifier('a')}` }) },
      entryOf({ resourceType: 'Provenance', target: [{ reference: name }], recorded: '2026-01-01T00:00:00Z' }),
    ];
    const first = await bundle('transaction', entries());
    assert.deepEqual(
      first.json.entry.map((entry) => entry.response.status),
      ['201', '201']
    );
    const [{ resource }] = (await search({ identifier: byIdentifier('a') })).json.entry;
    const provenance = await call('GET', `/Provenance?target=Observation/${resource.id}`);
    assert.equal(provenance.json.total, 1);
    const second = await bundle('transaction', entries());
    assert.equal(second.json.entry[0].response.status, '200');
  });

  test('NOT: a transaction is a batch by another name: one entry fails, the other stays', async () => {
    const first = await create(observation('old'));
    const answer = await bundle('transaction', [
      entryOf(observation('a')),
      {
        resource: { ...first.json, status: 'amended' },
        request: { method: 'PUT', url: `Observation/${first.json.id}`, ifMatch: 'W/"stale"' },
      },
    ]);
    assert.equal(answer.status, 200);
    assert.equal(answer.json.type, 'transaction-response');
    assert.deepEqual(
      answer.json.entry.map((entry) => entry.response.status),
      ['201', '412']
    );
    assert.equal((await search({ identifier: byIdentifier('a') })).json.total, 1);
  });
});

describe('HTTP', () => {
  test('metadata claims what is kept, and no transactions', async () => {
    const { json } = await call('GET', '/metadata');
    assert.equal(json.fhirVersion, '4.0.1');
    const [rest] = json.rest;
    assert.deepEqual(rest.interaction, [{ code: 'batch' }]);
    const claimed = rest.resource.find((resource) => resource.type === 'Observation');
    assert.ok(claimed.searchParam.some((parameter) => parameter.name === 'identifier'));
    assert.ok(!claimed.searchParam.some((parameter) => parameter.type === 'quantity'));
  });

  test('what is not FHIR is refused', async () => {
    assert.equal((await call('GET', '/Observation/no-such')).status, 404);
    assert.equal((await call('GET', '/a/b/c/d/e')).status, 404);
    assert.equal((await fetch(new URL('/', server.baseUrl))).status, 404);
    assert.equal((await fetch(new URL('/fhirx/Patient', server.baseUrl))).status, 404);
    const text = { body: '{}', headers: { 'content-type': 'text/plain' } };
    assert.equal((await call('POST', '/Observation', text)).status, 415);
    assert.equal((await call('POST', '/Observation/_search', { body: '{}' })).status, 415);
    assert.equal((await call('POST', '/Observation', { body: '{' })).status, 400);
    const large = { body: ' '.repeat(9 * 1024 * 1024) };
    assert.equal((await call('POST', '/Observation', large)).status, 413);
  });
});

describe('loading', () => {
  const stored = async (...bundles) => {
    const resources = [];
    let next = 0;
    const repository = {
      generateId: () => `made-${(next += 1)}`,
      createResource: async (resource) => resources.push(structuredClone(resource)),
    };
    await load(repository, bundles);
    return resources;
  };
  const clinic = (id) => ({
    fullUrl: `urn:uuid:${id}`,
    resource: { resourceType: 'Organization', id, identifier: [{ system: 's', value: 'v' }] },
    request: { method: 'POST', url: 'Organization', ifNoneExist: 'identifier=s|v' },
  });
  const patientOf = (reference) => ({
    fullUrl: 'urn:uuid:p',
    resource: { resourceType: 'Patient', managingOrganization: { reference } },
  });
  const bundle = (...entry) => ({ resourceType: 'Bundle', type: 'transaction', entry });

  test('rewrites references, and loads what several bundles share once', async () => {
    const resources = await stored(
      bundle(clinic('c1')),
      bundle(clinic('c2'), patientOf('urn:uuid:c2')),
      bundle({ ...patientOf('Organization?identifier=s|v'), fullUrl: 'urn:uuid:q' })
    );
    const seen = resources.map(({ resourceType, id, managingOrganization: at }) => [resourceType, id, at?.reference]);
    assert.deepEqual(seen, [
      ['Organization', 'c1', undefined],
      ['Patient', 'p', 'Organization/c1'],
      ['Patient', 'q', 'Organization/c1'],
    ]);
  });

  test('refuses an entry without a resource', async () => {
    await assert.rejects(stored(bundle({ fullUrl: 'urn:uuid:x' })), LoadRefused);
  });
});
