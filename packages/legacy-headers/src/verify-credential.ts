/** Proves a token against the digests of one tenant: every comparison is made, whatever the first ones say. */

import { hash, timingSafeEqual } from 'node:crypto'
import type { Judgement, LifetimeMs } from '@sallyport/guard'
import { refusal, type LegacyHeadersReason } from './errors.js'
import { isAccessToken } from './read-credential.js'

/** What the two headers prove. Frozen. */
export interface LegacyHeadersIdentity {
  /** The tenant header's value, such as a company id; always a string. */
  readonly tenant: string
  /** The `id` of the token that matched, where it has one. */
  readonly credentialId?: string
}

/** One token of one tenant, compiled: all that a passing request needs is already here. */
export interface TokenRecord extends LifetimeMs {
  readonly digest: Uint8Array
  readonly judgement: Judgement<LegacyHeadersIdentity>
}

/** How many tokens one tenant may have. */
export const MAX_TOKENS = 16

const DIGEST_BYTES = 32

const emptyDigest = Buffer.from(hash('sha256', '', 'hex'), 'hex')

/**
 * The digest to keep in place of an access token: its SHA-256, as 64 lower-case hexadecimal digits.
 * Meant for random tokens; a password would need a slow hash.
 * Throws a `TypeError` for what could never arrive in a header: the empty string, more than 1,024 characters, white
 * space, commas and anything but visible ASCII.
 */
export function hashAccessToken (token: string): string {
  if (typeof token !== 'string' || !isAccessToken(token)) throw new TypeError('an access token must be 1 to 1,024 visible ASCII characters without a comma')
  return hash('sha256', token, 'hex')
}

/** Bytes of a digest given as 64 hexadecimal digits, as base64url without padding, or as 32 bytes; `undefined` for anything else, and for the digest of nothing. */
export function parseDigest (given: unknown): Buffer | undefined {
  const bytes = digestBytes(given)
  return bytes === undefined || timingSafeEqual(bytes, emptyDigest) ? undefined : bytes
}

function digestBytes (given: unknown): Buffer | undefined {
  if (given instanceof Uint8Array) return given.length === DIGEST_BYTES ? Buffer.from(given) : undefined
  if (typeof given !== 'string') return undefined
  if (/^[0-9a-f]{64}$/i.test(given)) return Buffer.from(given, 'hex')
  if (!/^[\w-]{43}$/.test(given)) return undefined
  const bytes = Buffer.from(given, 'base64url')
  return bytes.toString('base64url') === given ? bytes : undefined
}

/** The digest of the token that is being judged: nothing waits while it is used, so one is enough. */
const presented = Buffer.alloc(DIGEST_BYTES)

/** Stands in for tokens that are not there. No token is known to hash to it, and a match with it would not count. */
const dummyDigest = Buffer.alloc(DIGEST_BYTES)

export interface Verification {
  /** Empty for an unknown tenant. */
  readonly tokens: readonly TokenRecord[]
  /** The token as presented. */
  readonly token: string
  /** Milliseconds since the epoch. */
  readonly now: number
  /** Comparisons to make: at least the longest list there is, so that time tells nothing about any one list. */
  readonly comparisons: number
}

/** Gives the judgement of the token that matches and is in its lifetime, or throws the one refusal for all that is wrong. */
export function verifyCredential ({ tokens, token, now, comparisons }: Verification): Judgement<LegacyHeadersIdentity> {
  // By way of a string: asking `crypto.hash` for a Buffer takes half as long again.
  presented.write(hash('sha256', token, 'binary'), 'latin1')
  let found: TokenRecord | undefined
  for (let i = 0; i < comparisons; i++) {
    const candidate = tokens[i]
    if (timingSafeEqual(presented, candidate?.digest ?? dummyDigest)) found = candidate
  }
  if (found === undefined) throw invalid(tokens.length === 0 ? 'tenant-unknown' : 'token-wrong')
  if (!(now >= found.notBeforeMs)) throw invalid('token-early')
  if (!(now < found.notAfterMs)) throw invalid('token-expired')
  return found.judgement
}

function invalid (reason: LegacyHeadersReason) {
  return refusal('ERR_LEGACY_HEADERS_CREDENTIALS_INVALID', { reason })
}
