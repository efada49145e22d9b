/** Finds the token in a request: exactly one, in exactly one place. */

import type { FastifyRequest } from 'fastify'
import { headerValues } from '@sallyport/guard'
import { refusal } from './errors.js'

/** Where a token may stand. */
export type TokenSource
  /** `Authorization: Bearer <token>`, the scheme in any case (RFC 6750 section 2.1); another header or scheme if named. */
  = { readonly header: string, readonly scheme: string }
  /** A header that holds the bare token: `{ header: 'JWT' }`. */
    | { readonly header: string }
  /** A cookie by its exact name. */
    | { readonly cookie: string }

/**
 * Finds every token in the sources, as texts; a header without the right scheme holds none. Guard asks whether there is one
 * and then what it is, right after each other, so the answer for the last request is kept until it is asked for again.
 */
export function createTokenFinder (sources: readonly TokenSource[]): (request: FastifyRequest) => readonly string[] {
  let last: FastifyRequest | undefined
  let found: readonly string[] = none
  return function tokensOf (request) {
    if (last !== request) {
      last = request
      found = findTokens(request, sources)
      return found
    }
    last = undefined
    const known = found
    found = none
    return known
  }
}

const none: readonly string[] = Object.freeze([])

function findTokens (request: FastifyRequest, sources: readonly TokenSource[]): readonly string[] {
  if (sources.length === 1) return tokensIn(request, sources[0]!)
  return sources.flatMap((source) => tokensIn(request, source))
}

/** The one token. Throws if it is empty, too long, repeated or joined with another, or presented in two places. */
export function readToken (tokens: readonly string[], maxTokenBytes: number): string {
  const [token] = tokens
  if (tokens.length !== 1) throw refusal('ERR_BEARER_JWT_TOKEN_AMBIGUOUS')
  if (token === undefined || token === '' || token.length > maxTokenBytes) throw refusal('ERR_BEARER_JWT_TOKEN_INVALID', { reason: 'malformed' })
  return token
}

function tokensIn (request: FastifyRequest, source: TokenSource): readonly string[] {
  if ('cookie' in source) return cookieValues(request, source.cookie)
  const values = headerValues(request, source.header)
  return 'scheme' in source ? afterSchemes(values, source.scheme) : values
}

function afterSchemes (values: readonly string[], scheme: string): readonly string[] {
  if (values.length === 0) return none
  if (values.length === 1) {
    const token = afterScheme(values[0]!, scheme)
    return token === undefined ? none : [token]
  }
  const tokens = values.map((value) => afterScheme(value, scheme))
  // More than one field line can't be an honest client's, whichever of them is ours.
  return tokens.every((token) => token === undefined) ? none : tokens.map((token) => token ?? '')
}

const SPACE = 0x20
const CASE_BIT = 0x20

/** What follows the scheme and its spaces; `undefined` where another scheme stands. */
function afterScheme (value: string, scheme: string): string | undefined {
  let start = scheme.length
  if (!startsWith(value, scheme)) return undefined
  // The scheme in any case, then an end, or something that can't belong to its name.
  if (value.charCodeAt(start) !== SPACE && value.length > start && /[\w!#$%&'*+.^`|~-]/.test(value.charAt(start))) return undefined
  while (value.charCodeAt(start) === SPACE) start++
  return value.slice(start)
}

/** Whether a value starts with a scheme, given in lower case, in any case. Letter by letter: a copy in lower case would hold the token. */
function startsWith (value: string, scheme: string): boolean {
  if (value.length < scheme.length) return false
  for (let i = 0; i < scheme.length; i++) {
    const given = value.charCodeAt(i)
    const wanted = scheme.charCodeAt(i)
    if (given !== wanted && !(isLetter(wanted) && (given | CASE_BIT) === wanted)) return false
  }
  return true
}

function isLetter (code: number): boolean {
  return code >= 0x61 && code <= 0x7a
}

function cookieValues (request: FastifyRequest, name: string): readonly string[] {
  return headerValues(request, 'cookie').flatMap((line) => line.split(';')).flatMap((pair) => {
    const at = pair.indexOf('=')
    return at > 0 && pair.slice(0, at).trim() === name ? [pair.slice(at + 1).trim()] : []
  })
}
