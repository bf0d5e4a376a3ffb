// Fills the repository from Bundles before the server listens.
//
// Not the transaction interaction: the router refuses a transaction of more than eight entries that has
// a conditional create among them, and gives out new ids. Here ids are kept, `urn:uuid:` references and
// conditional references become plain ones, and `ifNoneExist` is honoured over all bundles together.
// Start at `load`.

import { readFile, readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

const BUNDLES_MAX = 2_000;
const ENTRIES_MAX = 500_000;
const BUNDLE_TYPES = ['transaction', 'batch', 'collection'];

/** What was given cannot be loaded; the message names the place, never content. */
export class LoadRefused extends Error {}

/** Reads bundles from files and from the *.json of folders, in the order of their names. */
export async function readBundles(paths) {
  const files = [];
  for (const path of paths) {
    const found = await stat(path).catch(() => {
      throw new LoadRefused(`cannot read ${path}`);
    });
    if (found.isDirectory()) {
      const names = (await readdir(path)).filter((name) => name.endsWith('.json')).sort();
      files.push(...names.map((name) => join(path, name)));
    } else {
      files.push(path);
    }
  }
  if (files.length > BUNDLES_MAX) {
    throw new LoadRefused(`${files.length} files are more than ${BUNDLES_MAX}`);
  }
  const bundles = [];
  for (const file of files) {
    const bundle = parse(await readFile(file, 'utf8'));
    if (bundle?.resourceType !== 'Bundle' || !BUNDLE_TYPES.includes(bundle.type)) {
      throw new LoadRefused(`${file} is not a Bundle of type ${BUNDLE_TYPES.join(', ')}`);
    }
    bundles.push(bundle);
  }
  return bundles;
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Stores every resource of the bundles; answers how many bundles and resources there were. */
export async function load(repository, bundles) {
  const plan = { resources: [], byFullUrl: new Map(), byIdentifier: new Map() };
  for (const [number, bundle] of bundles.entries()) {
    for (const [position, entry] of (bundle.entry ?? []).entries()) {
      place(plan, repository, entry, `bundle ${number}, entry ${position}`);
    }
  }
  for (const resource of plan.resources) {
    rewrite(resource, plan);
    await repository.createResource(resource);
  }
  return { bundles: bundles.length, resources: plan.resources.length };
}

function place(plan, repository, entry, where) {
  const { resource, fullUrl } = entry;
  if (typeof resource?.resourceType !== 'string') {
    throw new LoadRefused(`${where} has no resource`);
  }
  if (plan.resources.length >= ENTRIES_MAX) {
    throw new LoadRefused(`more than ${ENTRIES_MAX} resources`);
  }
  const condition = entry.request?.ifNoneExist;
  const wanted = condition ? `${resource.resourceType}?${condition}` : undefined;
  const already = wanted ? lookup(plan, wanted) : undefined;
  const id = already?.split('/')[1] ?? resource.id ?? fullUrl?.match(/^urn:uuid:(.+)$/)?.[1] ?? repository.generateId();
  const reference = `${resource.resourceType}/${id}`;
  if (fullUrl) {
    plan.byFullUrl.set(fullUrl, reference);
  }
  if (already) {
    return;
  }
  for (const { system, value } of [resource.identifier ?? []].flat()) {
    plan.byIdentifier.set(`${resource.resourceType}?identifier=${system ?? ''}|${value}`, reference);
  }
  plan.resources.push({ ...resource, id });
}

/** The reference that `Type?identifier=system|value` stands for, if exactly that identifier was seen. */
function lookup(plan, conditional) {
  return plan.byIdentifier.get(conditional) ?? plan.byIdentifier.get(decode(conditional));
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function rewrite(value, plan) {
  if (Array.isArray(value)) {
    value.forEach((item) => rewrite(item, plan));
    return;
  }
  if (value === null || typeof value !== 'object') {
    return;
  }
  if (typeof value.reference === 'string') {
    const known = plan.byFullUrl.get(value.reference) ?? lookup(plan, value.reference);
    value.reference = known ?? value.reference;
  }
  Object.values(value).forEach((item) => rewrite(item, plan));
}
