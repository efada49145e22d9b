/** Finds the token in a request: exactly one, in exactly one place. */

import type { FastifyRequest } from 'fastify'
import { headerValues, severalLines, soleHeaderValue, startsWithIgnoringCase } from '@sallyport/guard'
import { refusal } from './errors.js'

/** Where a token may stand. */
export type TokenSource
  /** `Authorization: Bearer <token>`, the scheme in any case (RFC 6750 section 2.1); another header or scheme if named. */
  = { readonly header: string, readonly scheme: string }
  /** A header that holds the bare token: `{ header: 'JWT' }`. */
    | { readonly header: string }
  /** A cookie by its exact name. */
    | { readonly cookie: string }

/** What a request holds: no token, one, or more than one (or more than one field line where one stands). */
export type FoundToken = string | typeof severalLines | undefined

export interface TokenFinder {
  readonly isPresented: (request: FastifyRequest) => boolean
  /** The token of a request. */
  readonly take: (request: FastifyRequest) => FoundToken
}

/**
 * Finds the token in the sources; a header without the right scheme holds none. Guard asks whether there is one and, right
 * after that, what it is: so what was found is kept in between, and no longer.
 */
export function createTokenFinder (sources: readonly TokenSource[]): TokenFinder {
  let last: FastifyRequest | undefined
  let found: FoundToken
  return {
    isPresented (request) {
      found = findToken(request, sources)
      last = found === undefined ? undefined : request
      return found !== undefined
    },
    take (request) {
      const token = last === request ? found : findToken(request, sources)
      last = found = undefined
      return token
    }
  }
}

function findToken (request: FastifyRequest, sources: readonly TokenSource[]): FoundToken {
  let found = tokenIn(request, sources[0]!)
  for (let i = 1; i < sources.length; i++) {
    const other = tokenIn(request, sources[i]!)
    if (other !== undefined) found = found === undefined ? other : severalLines
  }
  return found
}

/** The one token. Throws if there are several, or if it is empty or too long. */
export function readToken (found: FoundToken, maxTokenBytes: number): string {
  if (found === severalLines) throw refusal('ERR_BEARER_JWT_TOKEN_AMBIGUOUS')
  if (found === undefined || found === '' || found.length > maxTokenBytes) throw refusal('ERR_BEARER_JWT_TOKEN_INVALID', { reason: 'malformed' })
  return found
}

function tokenIn (request: FastifyRequest, source: TokenSource): FoundToken {
  if ('cookie' in source) return tokenInCookies(request, source.cookie)
  const value = soleHeaderValue(request, source.header)
  if (value === undefined || !('scheme' in source)) return value
  return value === severalLines ? tokenInLines(request, source) : afterScheme(value, source.scheme)
}

/** More than one field line can't be an honest client's, whichever of them is ours. */
function tokenInLines (request: FastifyRequest, { header, scheme }: { readonly header: string, readonly scheme: string }): FoundToken {
  return headerValues(request, header).every((value) => afterScheme(value, scheme) === undefined) ? undefined : severalLines
}

function tokenInCookies (request: FastifyRequest, name: string): FoundToken {
  const values = cookieValues(request, name)
  return values.length < 2 ? values[0] : severalLines
}

const SPACE = 0x20

/** What follows the scheme and its spaces; `undefined` where another scheme stands. */
function afterScheme (value: string, scheme: string): string | undefined {
  if (!startsWithIgnoringCase(value, scheme)) return undefined
  const end = scheme.length
  return value.charCodeAt(end) === SPACE && value.charCodeAt(end + 1) !== SPACE ? value.slice(end + 1) : afterSpaces(value.slice(end))
}

/** Not as nearly everybody writes it: no space, several, or a name that only begins as the scheme does. */
function afterSpaces (rest: string): string | undefined {
  return /^[\w!#$%&'*+.^`|~-]/.test(rest) ? undefined : rest.replace(/^ +/, '')
}

function cookieValues (request: FastifyRequest, name: string): readonly string[] {
  return headerValues(request, 'cookie').flatMap((line) => line.split(';')).flatMap((pair) => {
    const at = pair.indexOf('=')
    return at > 0 && pair.slice(0, at).trim() === name ? [pair.slice(at + 1).trim()] : []
  })
}
