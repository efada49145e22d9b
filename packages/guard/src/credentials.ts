/** Where credentials stand in a request: reading every value of a header, and hiding what has been judged. */

import type { FastifyRequest } from 'fastify'
import { addHeader, removeHeader, valuesOf, type IsOurs } from './header-views.js'

/** One place that a guard reads a credential from. Names are compared without case. */
export type CredentialSource
  = { readonly header: string, readonly scheme?: string }
    | { readonly cookie: string }
    | { readonly other: string }

/** Every value of a header as it came, one for each field line; `name` in lower case. Node joins or drops repeats, this does not. */
export function headerValues (request: FastifyRequest, name: string): readonly string[] {
  return valuesOf(request.raw.rawHeaders, name)
}

/** True if two guards could judge the same credential: the same cookie, or the same header with the same scheme or with none. */
export function sharesSource (a: CredentialSource, b: CredentialSource): boolean {
  if ('header' in a && 'header' in b) {
    if (a.header.toLowerCase() !== b.header.toLowerCase()) return false
    return a.scheme === undefined || b.scheme === undefined || a.scheme.toLowerCase() === b.scheme.toLowerCase()
  }
  if ('cookie' in a && 'cookie' in b) return a.cookie === b.cookie
  return 'other' in a && 'other' in b && a.other === b.other
}

/** For people: `Authorization: Bearer`, `cookie session`. */
export function describeSource (source: CredentialSource): string {
  if ('header' in source) return source.scheme === undefined ? `header ${source.header}` : `header ${source.header}: ${source.scheme}`
  return 'cookie' in source ? `cookie ${source.cookie}` : source.other
}

/** A place that a credential is to be taken out of; names and schemes in lower case. */
export type HiddenPlace
  = { readonly header: string, readonly isOurs: IsOurs }
    | { readonly cookie: string }

/** What has to go of these sources once they have been judged. */
export function hiddenPlacesOf (sources: readonly CredentialSource[]): readonly HiddenPlace[] {
  return sources.flatMap((source): HiddenPlace[] => {
    if ('header' in source) return [{ header: source.header.toLowerCase(), isOurs: isOfScheme(source.scheme) }]
    return 'cookie' in source ? [source] : []
  })
}

const isAny: IsOurs = () => true

function isOfScheme (scheme: string | undefined): IsOurs {
  if (scheme === undefined) return isAny
  const wanted = scheme.toLowerCase()
  return (value) => startsWithScheme(String(value), wanted)
}

const CASE_BIT = 0x20

/** Whether a value starts with a scheme, given in lower case, in any case. Letter by letter: a copy in lower case would hold the credential. */
export function startsWithScheme (value: string, scheme: string): boolean {
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

/**
 * Takes the credentials out of every view of the request, so that nothing downstream can log or forward them. A request that
 * passed keeps a header whose scheme is not ours: it may be another's. A refused one loses the whole header.
 */
export function hideCredentials (request: FastifyRequest, places: readonly HiddenPlace[], isRefused: boolean): void {
  for (let i = 0; i < places.length; i++) {
    const place = places[i]!
    if ('header' in place) hideHeader(request, place.header, isRefused ? isAny : place.isOurs)
    else hideCookie(request, place.cookie)
  }
}

function hideHeader (request: FastifyRequest, name: string, isOurs: IsOurs): void {
  removeHeader(request.raw, name, isOurs)
  // Whatever user code assigned to request.headers lies here and is merged over the raw headers.
  const { additionalHeaders } = request as { additionalHeaders?: Record<string, unknown> }
  if (additionalHeaders !== undefined && isOurs(additionalHeaders[name])) delete additionalHeaders[name]
}

function hideCookie (request: FastifyRequest, name: string): void {
  const { cookie } = request.raw.headers
  const kept = withoutCookie(cookie, name)
  const parsed = (request as { cookies?: Record<string, unknown> }).cookies
  if (parsed !== undefined && parsed !== null) delete parsed[name]
  if (kept === cookie) return
  hideHeader(request, 'cookie', isAny)
  if (kept !== undefined) addHeader(request.raw, 'cookie', kept)
}

function withoutCookie (header: string | undefined, name: string): string | undefined {
  if (header === undefined) return undefined
  const kept = header.split(';').filter((pair) => pair.split('=', 1)[0]!.trim() !== name)
  return kept.length === 0 ? undefined : kept.join(';').trim()
}
