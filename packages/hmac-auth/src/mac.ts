/** Message authentication codes (HMAC, RFC 2104), computed and compared. */

import { createHmac, createSecretKey, timingSafeEqual, type Hmac, type KeyObject } from 'node:crypto'
import { OptionsError } from '@sallyport/guard'

export type MacAlgorithm = 'sha1' | 'sha256' | 'sha384' | 'sha512'

/** The MACs of one key. Strings are taken as UTF-8. */
export interface Mac {
  /** How many bytes each MAC has. */
  readonly length: number
  /** The MAC of a whole message. */
  readonly of: (message: string | Uint8Array) => Buffer
  /** The MAC of a message that comes in pieces: `update` it, then `digest` once. */
  readonly start: () => Hmac
}

const lengths: Readonly<Record<MacAlgorithm, number>> = { sha1: 20, sha256: 32, sha384: 48, sha512: 64 }

/** Prepares the MACs of one key, once. How long a key must be is the caller's policy; an empty one is refused here too. */
export function createMac (algorithm: MacAlgorithm, key: KeyObject | Uint8Array): Mac {
  const secret = key instanceof Uint8Array ? createSecretKey(key) : key
  if (secret.symmetricKeySize === undefined || secret.symmetricKeySize === 0) throw new OptionsError('@sallyport/hmac-auth', 'key', 'must be a secret that is not empty')
  return {
    length: lengths[algorithm],
    of: (message) => createHmac(algorithm, secret).update(message).digest(),
    start: () => createHmac(algorithm, secret)
  }
}

/** True if a presented MAC is the computed one, whole; a shortened or lengthened one is not. Takes the same time for every wrong one. */
export function isSameMac ({ computed, presented }: { readonly computed: Uint8Array, readonly presented: Uint8Array }): boolean {
  return presented.length === computed.length && timingSafeEqual(computed, presented)
}
