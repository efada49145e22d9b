/** The refusal table of this package, and the closed set of reasons behind it. */

import { defineRefusals, type AuthError, type RefusalDetails, type RefusalEntry } from '@sallyport/guard'

export const OWNER = '@sallyport/hmac-auth'

/** What this plugin refuses with. Messages are constants: nothing of a request is ever in them. */
export const hmacAuthRefusals = {
  /** No signature of this kind was presented. */
  ERR_HMAC_AUTH_SIGNATURE_MISSING: { outcome: 'absent', message: 'A signature is required' },
  /** Malformed, made with an unknown key, or not the signature of this request: one code, so that nothing can be learned by trying. */
  ERR_HMAC_AUTH_SIGNATURE_INVALID: { outcome: 'rejected', message: 'The signature is not valid' },
  /** A header of the signature came more than once, or there are several signatures and none is chosen. */
  ERR_HMAC_AUTH_SIGNATURE_AMBIGUOUS: { outcome: 'rejected', message: 'More than one signature was presented' },
  /** The signature covers less of the request than this API asks for, or a body came that it does not cover. */
  ERR_HMAC_AUTH_COVERAGE_INSUFFICIENT: { outcome: 'rejected', message: 'The signature does not cover all that is required' },
  /** Dated too long ago or ahead of this server's clock, which the `Date` header of the answer tells. */
  ERR_HMAC_AUTH_TIMESTAMP_EXPIRED: { outcome: 'rejected', message: 'The signature is not valid at this time' },
  /** The nonce (or the signature, where there is none) was used before. */
  ERR_HMAC_AUTH_SIGNATURE_REPLAYED: { outcome: 'rejected', message: 'The signature was used before' },
  /** The body is not the one whose digest was signed, or no digest of it can be checked. */
  ERR_HMAC_AUTH_DIGEST_INVALID: { outcome: 'rejected', message: 'The body is not what its digest says' },
  /** The key resolver failed, or answered with a key that may not be used. */
  ERR_HMAC_AUTH_KEYS_UNAVAILABLE: { outcome: 'unavailable', message: 'The signature can not be judged now' },
  /** The request is dated before the store of used signatures was made, so nobody knows whether it was used. */
  ERR_HMAC_AUTH_STATE_UNAVAILABLE: { outcome: 'unavailable', message: 'The signature can not be judged now' }
} as const satisfies Record<string, RefusalEntry>

export type HmacAuthRefusalCode = keyof typeof hmacAuthRefusals

/** Every reason that a decision event of this plugin can name, and what an operator should make of it. */
export const hmacAuthReasons = {
  'malformed-field': 'A structured field is not well-formed (RFC 9651)',
  'signature-malformed': 'The signature, or a header that belongs to it, is not written as this profile has it',
  'signature-incomplete': 'A header of the signature is missing beside the others',
  'signature-repeated': 'A header of the signature came more than once, the same value included',
  'signature-several': 'Several signatures came, and the profile names neither label nor tag',
  'algorithm': 'The signature names an algorithm that this key does not serve',
  'tag': 'The signature does not carry the tag that this profile asks for',
  'components': 'The list of what is covered is not well-formed, or names something twice',
  'component-unknown': 'The signature covers a component that does not exist',
  'component-absent': 'The signature covers a header that the request does not have',
  'component-unusable': 'A covered value is not one that can be signed: repeated, not ASCII, or of another type',
  'parts-ambiguous': 'A part of the string to sign holds the separator, so it could be read as several parts',
  'not-covered-method': 'The method is not covered',
  'not-covered-authority': 'The authority (host and port) is not covered',
  'not-covered-path': 'The path is not covered',
  'not-covered-query': 'The query is not covered',
  'not-covered-timestamp': 'The timestamp is not covered, or there is none',
  'not-covered-key-id': 'The key id is not covered, or there is none',
  'not-covered-nonce': 'The nonce is not covered, or there is none',
  'not-covered-digest': 'The request has a body, and no digest of it is covered',
  'not-covered-header': 'A header that the profile requires is not covered',
  'timestamp-malformed': 'The timestamp is not written as this profile has it',
  'too-old': 'The timestamp, or the end that the signature names, is too long ago',
  'ahead': 'The timestamp is further ahead than the clock tolerance',
  'key-unknown': 'No key has this id',
  'key-early': 'The signature is right, but the key is before its notBefore',
  'key-expired': 'The signature is right, but the key is past its notAfter',
  'signature-wrong': 'The key exists, and the signature is not one that it made for this request',
  'replayed': 'The nonce (or the signature) was used before',
  'digest-algorithm': 'The digest is of no algorithm that can be checked here',
  'digest-malformed': 'The digest is not well-formed',
  'digest-mismatch': 'The body is not the one that was signed',
  'dated-before-store': 'The request is dated before the store was made: it may have been used before a restart',
  'resolver': 'The key resolver threw, rejected or was too slow',
  'resolved-key': 'The key resolver answered with something that may not be used as a key'
} as const

export type HmacAuthReason = keyof typeof hmacAuthReasons

type Details = Omit<RefusalDetails, 'reason'> & { readonly reason?: HmacAuthReason }

export const refusal: (code: HmacAuthRefusalCode, details?: Details) => AuthError = defineRefusals<HmacAuthRefusalCode>(hmacAuthRefusals)

/** The signature is not valid: one code for all that could tell a guesser something. */
export function invalid (reason: HmacAuthReason): AuthError {
  return refusal('ERR_HMAC_AUTH_SIGNATURE_INVALID', { reason })
}
