// Counts what Chaperone created on a FHIR server, without Chaperone's help: resources that carry a
// write-back identifier, and identifiers that more than one resource carries.
//
//   node count.mjs BASE_URL
//
// Prints {"created": N, "duplicates": N}; exits with 1 when there are duplicates. For synthetic data.

const SYSTEM = 'urn:chaperone:writeback';

const baseUrl = process.argv[2];
if (!baseUrl || process.argv.length > 3) {
  console.error('usage: node count.mjs BASE_URL');
  process.exit(2);
}

async function get(path) {
  const response = await fetch(`${baseUrl}/${path}`);
  if (!response.ok) {
    console.error(`${path} answered ${response.status}`);
    process.exit(2);
  }
  return response.json();
}

const { rest } = await get('metadata');
const seen = new Map();
for (const { type } of rest[0].resource) {
  // By content, not by a search for the identifier: not every type can be searched by it.
  const { entry = [], total } = await get(type);
  if (total !== entry.length) {
    console.error(`${type} came in pages, which this program does not follow`);
    process.exit(2);
  }
  for (const { resource } of entry) {
    for (const { system, value } of [resource.identifier ?? []].flat()) {
      if (system === SYSTEM) {
        seen.set(value, (seen.get(value) ?? 0) + 1);
      }
    }
  }
}
const counts = [...seen.values()];
const duplicates = counts.filter((count) => count > 1).length;
const created = counts.reduce((sum, count) => sum + count, 0);
console.log(JSON.stringify({ created, duplicates }));
process.exit(duplicates > 0 ? 1 : 0);
