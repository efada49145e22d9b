/** Splits and decodes a compact JWS (RFC 7515 section 3.1), strictly: one spelling for one token, no surprises in JSON. */

import { isUtf8 } from 'node:buffer'
import { BoundedCache, ownText } from '@sallyport/guard'
import { refusal } from './errors.js'

export type JwtClaims = Readonly<Record<string, unknown>>

export interface JwtHeader {
  readonly alg: string
  readonly kid: string | undefined
  readonly typ: string | undefined
}

/** A token's parts, not yet believed. */
export interface ParsedToken {
  readonly token: string
  readonly header: JwtHeader
  /** The claims as they stand in the token; see `readClaims`. */
  readonly payload: string
  readonly signature: string
  /** What the signature is for: all before it. */
  readonly signed: string
}

/** Deeper JSON than any honest claim, and shallow enough for every recursive walker after us. */
const MAX_DEPTH = 32

const LONGEST_REMEMBERED = 256
const headers = new BoundedCache<JwtHeader>(200)
let last: { readonly segment: string, readonly header: JwtHeader } = { segment: '', header: Object.freeze({ alg: '', kid: undefined, typ: undefined }) }

export function parseToken (token: string): ParsedToken {
  const first = token.indexOf('.')
  const second = token.indexOf('.', first + 1)
  if (first < 1 || second < 0 || token.indexOf('.', second + 1) >= 0) throw malformed()
  const payload = token.slice(first + 1, second)
  const signature = token.slice(second + 1)
  if (!isBase64Url(payload) || !isBase64Url(signature)) throw malformed()
  return { token, header: parseHeader(token, first), payload, signature, signed: token.slice(0, second) }
}

/** The claims of a token, deeply frozen. Whoever needs them before the signature is proved must not believe them. */
export function readClaims ({ payload }: ParsedToken): JwtClaims {
  const claims = parseJson(payload)
  clean(claims)
  return claims
}

/** Callers sign with the same header again and again: what it says is remembered, for so many of them, and the last is at hand. */
function parseHeader (token: string, end: number): JwtHeader {
  if (end === last.segment.length && token.startsWith(last.segment)) return last.header
  const segment = token.slice(0, end)
  const known = headers.get(segment)
  const header = known ?? readHeader(parseSegment(segment))
  if (end > LONGEST_REMEMBERED) return header
  if (known === undefined) headers.set(segment, header)
  last = { segment: ownText(segment), header }
  return header
}

function readHeader (header: Record<string, unknown>): JwtHeader {
  const { alg, kid, typ } = ownOf(header)
  if (typeof alg !== 'string') throw malformed()
  if (kid !== undefined && typeof kid !== 'string') throw malformed()
  if (typ !== undefined && typeof typ !== 'string') throw malformed()
  // No extension is understood here (RFC 7515 section 4.1.11), and these two change what was signed (RFC 7797, RFC 7516).
  if (['crit', 'b64', 'zip'].some((name) => Object.hasOwn(header, name))) throw refusal('ERR_BEARER_JWT_TOKEN_INVALID', { reason: 'critical-header' })
  return Object.freeze({ alg, kid, typ })
}

function ownOf (header: Record<string, unknown>): Record<'alg' | 'kid' | 'typ', unknown> {
  const own = (name: string): unknown => Object.hasOwn(header, name) ? header[name] : undefined
  return { alg: own('alg'), kid: own('kid'), typ: own('typ') }
}

/** A JSON object from one base64url part of a token. */
export function parseSegment (segment: string): Record<string, unknown> {
  if (!isBase64Url(segment)) throw malformed()
  return parseJson(segment)
}

/** The same from what is known to be base64url. */
function parseJson (segment: string): Record<string, unknown> {
  const bytes = Buffer.from(segment, 'base64url')
  if (!isUtf8(bytes)) throw malformed()
  let value: unknown
  try {
    value = JSON.parse(bytes.toString())
  } catch {
    throw malformed()
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed()
  return value as Record<string, unknown>
}

/** Only the alphabet, only whole bytes, and no spare bits: each token has one spelling, so lists of tokens can be trusted. */
export function isBase64Url (text: string): boolean {
  if (!/^[A-Za-z0-9_-]*$/.test(text)) return false
  const rest = text.length % 4
  if (rest === 0) return true
  const last = text.at(-1)!
  return rest === 2 ? 'AQgw'.includes(last) : rest === 3 && 'AEIMQUYcgkosw048'.includes(last)
}

/** Removes `__proto__` members, which `Object.assign` would act upon, and freezes everything, so that no handler can change what another sees. */
function clean (value: object, depth = 0): void {
  if (depth > MAX_DEPTH) throw malformed()
  if (Object.hasOwn(value, '__proto__')) delete (value as Record<string, unknown>)['__proto__']
  // JSON makes own members only, so there are no others to meet here.
  for (const name in value) {
    const inner = (value as Record<string, unknown>)[name]
    if (typeof inner === 'object' && inner !== null) clean(inner, depth + 1)
  }
  Object.freeze(value)
}

function malformed (): Error {
  return refusal('ERR_BEARER_JWT_TOKEN_INVALID', { reason: 'malformed' })
}
