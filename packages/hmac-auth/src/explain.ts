/** Answers "why is my signature invalid?": what was signed, or would have to be, as text that two sides can compare. */

import { isAuthError, reasonOf, type AuthError } from '@sallyport/guard'
import type { HmacAuthReason } from './errors.js'
import type { PresentedSignature, Profile, SignedMessage } from './profile.js'
import { lackingNames } from './verify-signature.js'

/** What can be told of a request's signature without a key. */
export interface SignatureExplanation {
  /** The bytes that the MAC goes over, as text; a body stands in it as `<body>` or `<SHA-256 of the body, hex>`. */
  readonly stringToSign?: string
  readonly keyId?: string
  readonly signedAt?: Date
  readonly nonce?: string
  /** What of the floor is not covered, though it has to be: `nonce`, `digest`. */
  readonly lacks: readonly string[]
  /** Why there is no string to sign. */
  readonly reason?: HmacAuthReason
}

/** Explains a request as a profile reads it; never throws for what a request holds. */
export function explainMessage (profile: Profile, message: SignedMessage, hasBody: boolean): SignatureExplanation {
  let presented: PresentedSignature
  try {
    presented = profile.read(message, hasBody)
  } catch (error) {
    if (!isAuthError(error)) throw error
    return Object.freeze({ lacks: Object.freeze([]), reason: reasonOf(error) as HmacAuthReason })
  }
  const { keyId, datedAtMs, nonce, lacks } = presented
  return Object.freeze({
    stringToSign: textOf(presented),
    keyId,
    ...(!Number.isNaN(datedAtMs) && { signedAt: new Date(datedAtMs) }),
    ...(nonce !== undefined && { nonce }),
    lacks: Object.freeze(lackingNames(lacks))
  })
}

function textOf ({ base }: PresentedSignature): string {
  if (typeof base === 'string') return base
  return base.before + (base.body === 'bytes' ? '<body>' : `<SHA-256 of the body, ${base.body}>`) + base.after
}

const MAX_DEBUG_LENGTH = 6_000

/** The value of the `hmac-auth-debug` header: JSON in ASCII, with the true reason of a refusal and the string to sign. */
export function formatDebug (refused: AuthError, { stringToSign }: SignatureExplanation): string {
  const shown = stringToSign === undefined || stringToSign.length <= MAX_DEBUG_LENGTH ? stringToSign : `${stringToSign.slice(0, MAX_DEBUG_LENGTH)}...`
  const text = JSON.stringify({ reason: reasonOf(refused), ...(shown !== undefined && { stringToSign: shown }) })
  return text.replace(/[^\x20-\x7e]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
