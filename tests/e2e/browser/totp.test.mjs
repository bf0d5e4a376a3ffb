import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Authenticator, codeOf, decodeBase32, stepAt } from './totp.mjs';

test('the vectors of RFC 6238, appendix B', () => {
  const secret = Buffer.from('12345678901234567890');
  const vectors = [
    [59, '94287082'],
    [1111111109, '07081804'],
    [1111111111, '14050471'],
    [1234567890, '89005924'],
    [2000000000, '69279037'],
    [20000000000, '65353130'],
  ];
  for (const [seconds, code] of vectors) {
    assert.equal(codeOf(secret, stepAt(seconds), 8), code);
  }
});

test('the vectors of RFC 4648, section 10', () => {
  const vectors = { '': '', 'MY======': 'f', MZXQ: 'fo', mzxw6: 'foo', 'MZXW 6YQ=': 'foob', MZXW6YTBOI: 'foobar' };
  for (const [text, expected] of Object.entries(vectors)) {
    assert.equal(decodeBase32(text).toString(), expected);
  }
  assert.throws(() => decodeBase32('M1'), /base 32/);
});

test('a wrong code is wrong', () => {
  const secret = 'GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ';
  const now = stepAt(Date.now() / 1000);
  const wrong = new Authenticator(secret).wrong();
  assert.match(wrong, /^\d{6}$/);
  assert.notEqual(wrong, codeOf(decodeBase32(secret), now));
});
