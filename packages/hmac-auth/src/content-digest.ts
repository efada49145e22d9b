/** `Content-Digest` (RFC 9530): read, written, and held against the bytes of a body. */

import { createHash, hash, type Hash } from 'node:crypto'
import { refusal } from './errors.js'
import { parseDictionary } from './structured-fields.js'

export type DigestAlgorithm = 'sha-256' | 'sha-512'

/** The digests that a sender stated and that can be checked here; at least one, and all of them have to be right. */
export type ContentDigest = ReadonlyMap<DigestAlgorithm, Uint8Array>

/** Judges a body that comes in pieces; one for each request. */
export interface DigestWatch {
  /** `isWhole`: this is all of the body, which is then hashed in one go. Default: false. */
  readonly update: (chunk: Uint8Array, isWhole?: boolean) => void
  /**
   * The body has ended.
   * @throws AuthError `ERR_HMAC_AUTH_DIGEST_INVALID` if it is not the one that was stated
   */
  readonly verify: () => void
}

const algorithms: Readonly<Record<DigestAlgorithm, { readonly hash: string, readonly length: number }>> = {
  'sha-256': { hash: 'sha256', length: 32 },
  'sha-512': { hash: 'sha512', length: 64 }
}

/**
 * Reads a `Content-Digest` field. Algorithms that are not known here are passed over (RFC 9530 section 2), unless no other
 * is stated. An algorithm that is stated twice is refused: two verifiers could take different ones.
 * @param value the field's lines, joined with `, `
 * @throws AuthError `ERR_HMAC_AUTH_SIGNATURE_INVALID` if it is no dictionary, `ERR_HMAC_AUTH_DIGEST_INVALID` if it states no
 * digest that can be checked, or a known one of the wrong type or length
 */
export function parseContentDigest (value: string): ContentDigest {
  const digests = new Map<DigestAlgorithm, Uint8Array>()
  for (const [name, member] of parseDictionary(value, { repeatedKeys: 'refuse' })) {
    if (!isKnown(name)) continue
    if (member.type !== 'bytes' || member.value.length !== algorithms[name].length) throw refusal('ERR_HMAC_AUTH_DIGEST_INVALID', { reason: 'digest-malformed' })
    digests.set(name, member.value)
  }
  if (digests.size === 0) throw refusal('ERR_HMAC_AUTH_DIGEST_INVALID', { reason: 'digest-algorithm' })
  return digests
}

/** Hashes a body with every algorithm that was stated. Nothing of it is kept. */
export function watchContentDigest (expected: ContentDigest): DigestWatch {
  let running: Map<DigestAlgorithm, Hash> | undefined
  let isRight: boolean | undefined

  function areHashes (hashOf: (algorithm: DigestAlgorithm) => Buffer): boolean {
    for (const [algorithm, digest] of expected) if (!hashOf(algorithm).equals(digest)) return false
    return true
  }

  return {
    update (chunk, isWhole = false) {
      if (isWhole) {
        isRight = areHashes((algorithm) => hash(algorithms[algorithm].hash, chunk, 'buffer'))
        return
      }
      running ??= new Map(Array.from(expected.keys(), (algorithm) => [algorithm, createHash(algorithms[algorithm].hash)]))
      for (const one of running.values()) one.update(chunk)
    },
    verify () {
      isRight ??= areHashes((algorithm) => running?.get(algorithm)!.digest() ?? hash(algorithms[algorithm].hash, '', 'buffer'))
      if (!isRight) throw refusal('ERR_HMAC_AUTH_DIGEST_INVALID', { reason: 'digest-mismatch' })
    }
  }
}

/** Writes the field's value for a body; strings are taken as UTF-8. */
export function formatContentDigest (body: string | Uint8Array, algorithm: DigestAlgorithm = 'sha-256'): string {
  return `${algorithm}=:${hash(algorithms[algorithm].hash, body, 'base64')}:`
}

function isKnown (name: string): name is DigestAlgorithm {
  return Object.hasOwn(algorithms, name)
}
