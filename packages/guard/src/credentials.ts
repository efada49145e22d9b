/** Where credentials stand in a request: reading every value of a header, and hiding what has been judged. */

import type { FastifyRequest } from 'fastify'

/** One place that a guard reads a credential from. Names are compared without case. */
export type CredentialSource
  = { readonly header: string, readonly scheme?: string }
    | { readonly cookie: string }
    | { readonly other: string }

/** Every value of a header as it came, one for each field line; `name` in lower case. Node joins or drops repeats, this does not. */
export function headerValues (request: FastifyRequest, name: string): readonly string[] {
  const raw = request.raw.rawHeaders
  let found: string[] | undefined
  for (let i = 0; i < raw.length; i += 2) {
    const candidate = raw[i]!
    if (candidate.length === name.length && (candidate === name || candidate.toLowerCase() === name)) {
      (found ??= []).push(raw[i + 1]!)
    }
  }
  return found ?? none
}

const none: readonly string[] = Object.freeze([])

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

/**
 * Takes the credentials out of every view of the request, so that nothing downstream can log or forward them. A request that
 * passed keeps a header whose scheme is not ours: it may be another's. A refused one loses the whole header.
 */
export function hideCredentials (request: FastifyRequest, sources: readonly CredentialSource[], isRefused: boolean): void {
  const raw = request.raw as { rawHeaders: string[], headersDistinct?: Record<string, string[]> }
  const before = raw.rawHeaders.length
  let isChanged = false
  for (const source of sources) {
    if ('header' in source) hideHeader(request, source.header.toLowerCase(), isRefused ? undefined : source.scheme?.toLowerCase())
    else if ('cookie' in source) isChanged = hideCookie(request, source.cookie) || isChanged
  }
  // Node would make this view from as many rawHeaders as there once were, and throw; now it is made.
  if ((isChanged || raw.rawHeaders.length < before) && 'headersDistinct' in raw) raw.headersDistinct = distinctHeaders(raw.rawHeaders)
}

function hideHeader (request: FastifyRequest, name: string, scheme?: string): void {
  const { raw } = request
  // Made by Node from rawHeaders when first asked for, so ask before anything is taken out of those.
  const { headers } = raw
  const isOurs = (value: unknown): boolean => scheme === undefined || String(value).slice(0, scheme.length).toLowerCase() === scheme
  removeRawHeader(raw.rawHeaders, name, isOurs)
  if (name in headers && isOurs(headers[name])) delete headers[name]
  // Whatever user code assigned to request.headers lies here and is merged over the raw headers.
  const { additionalHeaders } = request as { additionalHeaders?: Record<string, unknown> }
  if (additionalHeaders !== undefined && isOurs(additionalHeaders[name])) delete additionalHeaders[name]
}

function removeRawHeader (raw: string[], name: string, isOurs: (value: unknown) => boolean): void {
  for (let i = raw.length - 2; i >= 0; i -= 2) {
    if (raw[i]!.length === name.length && raw[i]!.toLowerCase() === name && isOurs(raw[i + 1])) raw.splice(i, 2)
  }
}

function distinctHeaders (raw: readonly string[]): Record<string, string[]> {
  const distinct = Object.create(null) as Record<string, string[]>
  for (let i = 0; i < raw.length; i += 2) (distinct[raw[i]!.toLowerCase()] ??= []).push(raw[i + 1]!)
  return distinct
}

/** True if a cookie was taken out, and others stay. */
function hideCookie (request: FastifyRequest, name: string): boolean {
  const { raw } = request
  const kept = withoutCookie(raw.headers.cookie, name)
  const parsed = (request as { cookies?: Record<string, unknown> }).cookies
  if (parsed !== undefined && parsed !== null) delete parsed[name]
  if (kept === raw.headers.cookie) return false
  hideHeader(request, 'cookie')
  if (kept === undefined) return false
  raw.headers.cookie = kept
  raw.rawHeaders.push('Cookie', kept)
  return true
}

function withoutCookie (header: string | undefined, name: string): string | undefined {
  if (header === undefined) return undefined
  const kept = header.split(';').filter((pair) => pair.split('=', 1)[0]!.trim() !== name)
  return kept.length === 0 ? undefined : kept.join(';').trim()
}
