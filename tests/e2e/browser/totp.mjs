// One-time codes by time, as an authenticator app shows them.
//
// Source: RFC 6238 (SHA-1, 30 seconds, 6 digits), RFC 4226 section 5.3, RFC 4648 (base 32).

import { createHmac } from 'node:crypto';

const STEP_SECONDS = 30;
const DIGITS = 6;
const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567';

/** Bytes of a base 32 text; upper or lower case, with or without padding and spaces. */
export function decodeBase32(text) {
  const letters = text.toUpperCase().replace(/[\s=]/g, '');
  const bytes = [];
  let held = 0;
  let bits = 0;
  for (const letter of letters) {
    const value = ALPHABET.indexOf(letter);
    if (value < 0) {
      throw new Error('the TOTP secret is not base 32');
    }
    held = ((held << 5) | value) & 0xfff;
    bits += 5;
    if (bits >= 8) {
      bits -= 8;
      bytes.push((held >> bits) & 0xff);
    }
  }
  return Buffer.from(bytes);
}

/** The number of the time step that holds a time, in seconds since 1970. */
export function stepAt(seconds) {
  return Math.floor(seconds / STEP_SECONDS);
}

/** The code of a time step. */
export function codeOf(secret, step, digits = DIGITS) {
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(step));
  const mac = createHmac('sha1', secret).update(counter).digest();
  const offset = mac[mac.length - 1] & 0x0f;
  const number = mac.readUInt32BE(offset) & 0x7fffffff;
  return String(number % 10 ** digits).padStart(digits, '0');
}

/** An authenticator: never the same code twice, because each code works once. */
export class Authenticator {
  #secret;
  #last = -1;

  constructor(secretText) {
    this.#secret = decodeBase32(secretText);
  }

  /** A code that was not given out yet; waits for the next time step where it has to. */
  async next() {
    const step = Math.max(stepAt(Date.now() / 1000), this.#last + 1);
    const milliseconds = step * STEP_SECONDS * 1000 - Date.now();
    if (milliseconds > 0) {
      await new Promise((resolve) => setTimeout(resolve, milliseconds));
    }
    this.#last = step;
    return codeOf(this.#secret, step);
  }

  /** A well-formed code that is not one of now, of just before, or of soon. */
  wrong() {
    const now = stepAt(Date.now() / 1000);
    const near = [-2, -1, 0, 1, 2].map((distance) => codeOf(this.#secret, now + distance));
    const candidates = Array.from({ length: near.length + 1 }, (_, digit) => String(digit).repeat(DIGITS));
    return candidates.find((candidate) => !near.includes(candidate));
  }
}
