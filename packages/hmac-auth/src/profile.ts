/** What a profile is: one way to write a signature into a request, and the floor below which no signature is accepted. */

import { OptionReader, type CredentialSource, type MacAlgorithm, type OptionsError } from '@sallyport/guard'
import type { ContentDigest } from './content-digest.js'
import { OWNER } from './errors.js'
import type { FieldLines, RequestMessage } from './signature-base.js'

/** MAC algorithms by their names on the wire. `hmac-sha1` is for clients that can't do better yet. */
export const hmacAlgorithms = ['hmac-sha256', 'hmac-sha384', 'hmac-sha512', 'hmac-sha1'] as const
export type HmacAlgorithm = typeof hmacAlgorithms[number]

export const hashOf: Readonly<Record<HmacAlgorithm, MacAlgorithm>> = { 'hmac-sha256': 'sha256', 'hmac-sha384': 'sha384', 'hmac-sha512': 'sha512', 'hmac-sha1': 'sha1' }

/**
 * What a signature may leave out because the operator said so, each by its name. `ambiguous-parts`: the parts of the string
 * to sign may run into each other, so that two different requests could have one signature.
 */
export const gaps = ['no-method', 'no-authority', 'no-path', 'no-query', 'no-key-id', 'no-nonce', 'no-digest', 'ambiguous-parts'] as const
export type Gap = typeof gaps[number]

/** What the floor asks for; sets of these are numbers. */
export const cover = { method: 1, authority: 2, path: 4, query: 8, 'key-id': 16, nonce: 32, digest: 64, timestamp: 128, header: 256 } as const

/** Method, path and query. */
export const coversTarget = cover.method | cover.path | cover.query

/** What has to be covered where these gaps are accepted. A digest counts only where there is a body; a timestamp always. */
export function floorOf (accepts: readonly Gap[]): number {
  const waived = accepts.map((gap) => gap.slice('no-'.length))
  return Object.entries(cover).reduce((floor, [name, bit]) => waived.includes(name) ? floor : floor | bit, 0)
}

/** A request, and what a profile has to know beside the message. */
export interface SignedMessage extends RequestMessage {
  /** `1.1`, for the one profile that signs it. */
  readonly httpVersion?: string
}

/** What stands around the body where the MAC goes over the body itself, or over its SHA-256 in that encoding. */
export interface BaseAroundBody {
  readonly before: string
  readonly body: 'bytes' | 'hex' | 'base64'
  readonly after: string
}

/** A signature as it was presented. Nobody has proved any of it. */
export interface PresentedSignature {
  readonly keyId: string
  /** As the request names it; `undefined`: the key's own. */
  readonly algorithm: HmacAlgorithm | undefined
  readonly datedAtMs: number
  /** An end that the signature names itself. */
  readonly expiresAtMs?: number | undefined
  readonly nonce: string | undefined
  readonly mac: Uint8Array
  /** The string to sign. */
  readonly base: string | BaseAroundBody
  /** What the covered digest of the body says, if one is covered. */
  readonly digest: ContentDigest | undefined
  /** What of the floor is not covered: a set of `cover`. */
  readonly lacks: number
}

/** What goes into a signature beside the request. */
export interface SignatureFacts {
  readonly keyId: string
  readonly algorithm: HmacAlgorithm
  readonly datedAtMs: number
  readonly nonce: string
}

/** How a profile carries the digest of a body in a header of its own. */
export interface DigestHeader {
  readonly name: string
  readonly format: (body: string | Uint8Array) => string
}

/** One way to sign requests: `rfc9421()`, `headers()` or `authorizationHmac()`. Reads for verifiers what it writes for clients. */
export interface Profile {
  readonly name: string
  /** Where the signature stands. */
  readonly credentials: readonly CredentialSource[]
  /** The scheme that challenges name, and what else they tell a client. */
  readonly scheme: string
  readonly challenge: Readonly<Record<string, string>>
  /** The first is what a key without an algorithm signs with. */
  readonly algorithms: readonly HmacAlgorithm[]
  readonly accepts: readonly Gap[]
  /** Shorter secrets are never taken, whatever `shortSecrets` says. */
  readonly leastSecretBytes: number
  /** True if the MAC may go over the body itself, so that nothing is proved before it has been read. */
  readonly signsBody: boolean
  /** For the audit, beside the gaps. */
  readonly notes: readonly string[]
  readonly digest: DigestHeader | undefined
  readonly isPresented: (fieldLines: FieldLines) => boolean
  /** Throws an `AuthError` for what is not well-formed. What is not covered is told in `lacks`. */
  readonly read: (message: SignedMessage, hasBody: boolean) => PresentedSignature
  /** The fields that carry a signature: the same facts and the same MAC always give the same fields. */
  readonly write: (message: SignedMessage, facts: SignatureFacts, mac: Uint8Array) => Readonly<Record<string, string>>
  /** Set only by the functions of this package. */
  readonly [kProfile]: true
}

export const kProfile: unique symbol = Symbol.for('sallyport.hmac-auth.profile') as never

export function isProfile (value: unknown): value is Profile {
  return typeof value === 'object' && value !== null && kProfile in value
}

export function defineProfile (profile: Omit<Profile, typeof kProfile>): Profile {
  return Object.freeze({ ...profile, [kProfile]: true as const })
}

/** Reads what every profile takes: `accepts`, in which the gaps that its form always has must be named. */
export function readAccepts (reader: OptionReader, { always = [], possible = gaps }: { readonly always?: readonly Gap[], readonly possible?: readonly Gap[] } = {}): readonly Gap[] {
  const accepts = (reader.texts('accepts') ?? []) as readonly Gap[]
  for (const gap of accepts) if (!possible.includes(gap)) throw reader.error('accepts', `knows ${possible.join(', ')}; not "${gap}"`)
  for (const gap of always) if (!accepts.includes(gap)) throw reader.error('accepts', `must name "${gap}": this form always has that gap`)
  return accepts
}

/** Reads `algorithms`: what clients may sign with. Default: `hmac-sha256` alone. */
export function readAlgorithms (reader: OptionReader): readonly HmacAlgorithm[] {
  const algorithms = (reader.texts('algorithms') ?? ['hmac-sha256']) as readonly HmacAlgorithm[]
  for (const algorithm of algorithms) if (!hmacAlgorithms.includes(algorithm)) throw reader.error('algorithms', `must be of: ${hmacAlgorithms.join(', ')}`)
  return algorithms
}

export function notesOnAlgorithms (algorithms: readonly HmacAlgorithm[]): readonly string[] {
  return algorithms.includes('hmac-sha1') ? ['SHA-1 allowed'] : []
}

/** Names of header fields, in lower case (RFC 9110 section 5.1). */
export function readFieldName (reader: OptionReader, option: string, fallback: string): string {
  return fieldName(reader.text(option, fallback), (rule) => reader.error(option, rule))
}

export function fieldName (text: string, error: (rule: string) => OptionsError): string {
  if (!/^[\w!#$%&'*+.^`|~-]+$/.test(text)) throw error('must be a header name')
  return text.toLowerCase()
}

/** Options of a profile, as `rfc9421(options)` gets them. */
export function profileReader (name: string, options: unknown, names: readonly string[]): OptionReader {
  return new OptionReader(OWNER, options, names, `profile: ${name}().`)
}
