/** Where credentials stand in a request: reading every value of a header, and hiding what has been judged. */

import type { FastifyRequest } from 'fastify'
import { refusal, type AuthError } from './errors.js'
import { addHeader, hasScheme, removeHeader, SEVERAL, soleLine, valuesOf } from './header-views.js'

/** One place that a guard reads a credential from. Names are compared without case. */
export type CredentialSource
  = { readonly header: string, readonly scheme?: string }
    | { readonly cookie: string }
    | { readonly other: string }

/** Every value of a header as it came, one for each field line; `name` in lower case. Node joins or drops repeats, this does not. */
export function headerValues (request: FastifyRequest, name: string): readonly string[] {
  return valuesOf(request.raw.rawHeaders, name)
}

/** Stands for the value of a header that came in more than one field line. */
export const severalLines = Symbol('several field lines')

/** The value of a header that came in one field line; `undefined` where there is none. `name` in lower case. */
export function soleHeaderValue ({ raw: { rawHeaders } }: FastifyRequest, name: string): string | typeof severalLines | undefined {
  const at = soleLine(rawHeaders, name)
  return at >= 0 ? rawHeaders[at + 1] : at === SEVERAL ? severalLines : undefined
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
  = { readonly header: string, readonly scheme: string | undefined }
    | { readonly cookie: string }

/** What has to go of these sources once they have been judged. */
export function hiddenPlacesOf (sources: readonly CredentialSource[]): readonly HiddenPlace[] {
  return sources.flatMap((source): HiddenPlace[] => {
    if ('header' in source) return [{ header: source.header.toLowerCase(), scheme: source.scheme?.toLowerCase() }]
    return 'cookie' in source ? [source] : []
  })
}

/**
 * Takes the credentials out of every view of the request, so that nothing downstream can log or forward them. A request that
 * passed keeps a header whose scheme is not ours: it may be another's. A refused one loses the whole header. Where one can't be
 * taken out, since somebody froze what holds it, the others are, and the answer is a refusal.
 */
export function hideCredentials (request: FastifyRequest, places: readonly HiddenPlace[], isRefused: boolean): AuthError | undefined {
  let unhidden: AuthError | undefined
  // From the last one: what was put into an object last can be deleted without V8 making it another kind of object.
  for (let i = places.length - 1; i >= 0; i--) {
    const place = places[i]!
    try {
      if ('header' in place) hideHeader(request, place.header, isRefused ? undefined : place.scheme)
      else hideCookie(request, place.cookie)
    } catch (cause) {
      unhidden = refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'hide', cause })
    }
  }
  return unhidden
}

function hideHeader (request: FastifyRequest, name: string, scheme?: string): void {
  removeHeader(request.raw, name, scheme)
  // Whatever user code assigned to request.headers lies here and is merged over the raw headers.
  const { additionalHeaders } = request as { additionalHeaders?: Record<string, unknown> }
  if (additionalHeaders !== undefined && hasScheme(additionalHeaders[name], scheme)) delete additionalHeaders[name]
}

function hideCookie (request: FastifyRequest, name: string): void {
  const { cookie } = request.raw.headers
  const kept = withoutCookie(cookie, name)
  const parsed = (request as { cookies?: Record<string, unknown> }).cookies
  if (parsed !== undefined && parsed !== null) delete parsed[name]
  // The lines are looked at, too: a hook may have changed `headers`, and the guard read the lines.
  if (kept === cookie && headerValues(request, 'cookie').every((line) => withoutCookie(line, name) === line)) return
  hideHeader(request, 'cookie')
  if (kept !== undefined) addHeader(request.raw, 'cookie', kept)
}

function withoutCookie (header: string | undefined, name: string): string | undefined {
  if (header === undefined) return undefined
  const kept = header.split(';').filter((pair) => pair.split('=', 1)[0]!.trim() !== name)
  return kept.length === 0 ? undefined : kept.join(';').trim()
}
