/** What hmac-auth refuses with. */

import { defineRefusals, type RefusalEntry } from '@sallyport/guard'

export const hmacAuthRefusals = {
  /** Malformed, made with an unknown key, or not the signature of this request: one code, so that nothing can be learned by trying. */
  ERR_HMAC_AUTH_SIGNATURE_INVALID: { outcome: 'rejected', message: 'The signature is not valid' },
  /** The body is not the one whose digest was sent, or no digest of it can be checked. */
  ERR_HMAC_AUTH_DIGEST_INVALID: { outcome: 'rejected', message: 'The body is not what its digest says' }
} as const satisfies Record<string, RefusalEntry>

export type HmacAuthRefusalCode = keyof typeof hmacAuthRefusals

/**
 * Reason codes behind the refusals; they reach decision events only.
 * `malformed-field`, `components`, `component-unknown`, `component-absent`, `component-unusable`,
 * `digest-algorithm`, `digest-malformed`, `digest-mismatch`.
 */
export const refusal = defineRefusals<HmacAuthRefusalCode>(hmacAuthRefusals)
