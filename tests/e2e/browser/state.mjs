// One value of the demo's state file, on standard output.
//
//   node state.mjs FILE BASE_URL|ACCOUNT|PASSWORD|TOTP_SECRET ROLE
//
// The account is the first one that holds ROLE.

import { readFileSync } from 'node:fs';

const [file, field, role] = process.argv.slice(2);
const state = JSON.parse(readFileSync(file, 'utf8'));
const account = state.accounts.find(({ roles }) => roles.includes(role));
const values = {
  BASE_URL: state.base_url,
  ACCOUNT: account?.account,
  PASSWORD: account?.password,
  TOTP_SECRET: account?.totp_secret,
};
if (!values[field]) {
  console.error(`the demo's state file has no ${field} for an account with the role ${role}`);
  process.exit(2);
}
process.stdout.write(values[field]);
