// Serves Medplum's FHIR router and its in-memory repository over plain HTTP on this machine.
//
// It is the counterpart for end-to-end tests: a FHIR server that Chaperone's authors did not write.
// This file adds only what a router has no part in: HTTP itself, headers, the search form, metadata.
// It mends nothing that the router or the repository does; README.md lists what to expect of them.
//
// Not here: reading bundles (load.mjs), the CapabilityStatement (capability.mjs).
// Start at `main`, then `answer`.

import { appendFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';

import { badRequest, getStatus, notFound } from '@medplum/core';
import { FhirRouter, MemoryRepository } from '@medplum/fhir-router';

import { capabilityStatement, indexDefinitions } from './capability.mjs';
import { LoadRefused, load, readBundles } from './load.mjs';

const BASE_PATH = '/fhir';
const FHIR_JSON = 'application/fhir+json';
const FORM = 'application/x-www-form-urlencoded';
const BODY_BYTES_MAX = 8 * 1024 * 1024;
const URL_BYTES_MAX = 16 * 1024;
const REQUEST_TIMEOUT_MS = 30_000;

const USAGE = `usage: node server.mjs [--port PORT] [--access-log FILE] [FILE_OR_DIR ...]

Serves FHIR R4 on http://127.0.0.1:PORT${BASE_PATH} (a free port without --port) until SIGTERM.
Each FILE, and each *.json in each DIR, is a Bundle of type transaction, batch or collection to start with.
With --access-log, FILE is begun anew and gets the method and the URL of each request.
When ready, prints one line: {"base_url": ..., "bundles": ..., "resources": ...}.`;

/** A request that never reaches the router. */
class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

/** Starts a server that knows `repository` under the base path. Resolves once it listens. */
export async function start({ port = 0, bundles = [], accessLog = undefined } = {}) {
  indexDefinitions();
  const repository = new MemoryRepository();
  const router = new FhirRouter();
  const loaded = await load(repository, bundles);

  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS, keepAliveTimeout: 5_000 });
  const place = { baseUrl: undefined };
  if (accessLog) {
    writeFileSync(accessLog, '');
  }
  server.on('request', (request, response) => {
    if (accessLog) {
      appendFileSync(accessLog, `${request.method} ${request.url}\n`);
    }
    answer(request, router, repository, place.baseUrl).then(
      (reply) => send(response, request.method, reply),
      (failed) => send(response, request.method, failure(failed))
    );
  });
  await new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
  place.baseUrl = `http://127.0.0.1:${server.address().port}${BASE_PATH}`;
  return {
    baseUrl: place.baseUrl,
    loaded,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(request, router, repository, baseUrl) {
  const path = pathBelowBase(request.url ?? '');
  const body = await readBody(request);
  if (path === 'metadata' || path.startsWith('metadata?')) {
    if (request.method !== 'GET') {
      throw new Refused(405, 'metadata is read with GET');
    }
    return { status: 200, headers: {}, resource: capabilityStatement(baseUrl) };
  }
  const [outcome, resource] = await router.handleRequest(
    {
      method: request.method,
      url: isFormSearch(request, path) ? path.split('?', 1)[0] : path,
      pathname: '',
      params: {},
      query: {},
      headers: request.headers,
      body: content(request, path, body),
    },
    repository
  );
  const status = getStatus(outcome);
  const headers = resource ? headersFor(resource, status, baseUrl) : {};
  return { status, headers, resource: resource ?? outcome };
}

/** The path and query after the base path, without a leading slash. */
function pathBelowBase(url) {
  if (url.length > URL_BYTES_MAX) {
    throw new Refused(414, 'the URL is too long');
  }
  const rest = url.startsWith(BASE_PATH) ? url.slice(BASE_PATH.length) : undefined;
  if (rest === undefined || !/^([/?]|$)/.test(rest)) {
    throw new Refused(404, `everything is below ${BASE_PATH}`);
  }
  return rest.replace(/^\//, '');
}

async function readBody(request) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > BODY_BYTES_MAX) {
      throw new Refused(413, `a body has at most ${BODY_BYTES_MAX} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function isFormSearch(request, path) {
  return request.method === 'POST' && /(^|\/)_search(\?|$)/.test(path);
}

/** The body as the router takes it: an object of parameters for a search by POST, else JSON. */
function content(request, path, body) {
  const mediaType = (request.headers['content-type'] ?? '').split(';', 1)[0].trim().toLowerCase();
  if (isFormSearch(request, path)) {
    if (body !== '' && mediaType !== FORM) {
      throw new Refused(415, `a search by POST carries ${FORM}`);
    }
    const query = path.includes('?') ? path.slice(path.indexOf('?') + 1) : '';
    return parameters([...new URLSearchParams(query), ...new URLSearchParams(body)]);
  }
  if (body === '') {
    return undefined;
  }
  if (![FHIR_JSON, 'application/json', 'application/json-patch+json'].includes(mediaType)) {
    throw new Refused(415, `a body is ${FHIR_JSON}`);
  }
  try {
    return JSON.parse(body);
  } catch {
    throw new Refused(400, 'the body is not JSON');
  }
}

/** One entry per name; a name that is repeated has a list, which the router reads as "and". */
function parameters(pairs) {
  const named = Object.create(null);
  for (const [name, value] of pairs) {
    named[name] = name in named ? [named[name], value].flat() : value;
  }
  return named;
}

function headersFor(resource, status, baseUrl) {
  const headers = {};
  const version = resource.meta?.versionId;
  if (version) {
    headers.ETag = `W/"${version}"`;
  }
  const changed = Date.parse(resource.meta?.lastUpdated ?? '');
  if (!Number.isNaN(changed)) {
    headers['Last-Modified'] = new Date(changed).toUTCString();
  }
  if (status === 201) {
    headers.Location = `${baseUrl}/${resource.resourceType}/${resource.id}`;
  }
  return headers;
}

/** Says nothing about what went wrong inside: it may quote a record. */
function failure(failed) {
  const refused = failed instanceof Refused;
  const outcome = refused && failed.status === 404 ? notFound : badRequest(refused ? failed.message : 'failed');
  return { status: refused ? failed.status : 500, headers: {}, resource: outcome };
}

function send(response, method, { status, headers, resource }) {
  const body = Buffer.from(JSON.stringify(resource), 'utf8');
  response.writeHead(status, {
    'Content-Type': `${FHIR_JSON}; charset=utf-8`,
    'Content-Length': body.length,
    'Cache-Control': 'no-store',
    ...(status === 413 ? { Connection: 'close' } : {}),
    ...headers,
  });
  response.end(method === 'HEAD' ? undefined : body);
}

async function main() {
  const { values, positionals } = parseArgs({
    options: { port: { type: 'string', default: '0' }, 'access-log': { type: 'string' }, help: { type: 'boolean' } },
    allowPositionals: true,
  });
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const port = Number(values.port);
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new LoadRefused(`--port ${values.port} is no port`);
  }
  const running = await start({ port, bundles: await readBundles(positionals), accessLog: values['access-log'] });
  const stop = () => {
    running.stop().then(() => process.exit(0));
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  console.log(JSON.stringify({ base_url: running.baseUrl, ...running.loaded }));
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  main().catch((failed) => {
    const known = failed instanceof LoadRefused || failed.code === 'EADDRINUSE' || failed.code?.startsWith?.('ERR_PARSE_ARGS');
    console.error(known ? failed.message : `the server did not start: ${failed.code ?? failed.name}`);
    console.error(USAGE);
    process.exit(2);
  });
}
