/** Reads the two headers as one credential: each exactly once, in exactly one spelling, never merged and never guessed. */

import { headerValues, isSameIgnoringCase } from '@sallyport/guard'
import type { FastifyRequest } from 'fastify'
import { refusal, type LegacyHeadersReason } from './errors.js'

/** What was presented. The token is in clear, so this never leaves the judgement. */
export interface PresentedCredential {
  readonly tenant: string
  readonly token: string
}

export interface CredentialReaderOptions {
  /** Every spelling of the tenant header, lower case, the configured one first. */
  readonly tenantNames: readonly string[]
  /** Every spelling of the token header, likewise. */
  readonly tokenNames: readonly string[]
  readonly isTenant: (text: string) => boolean
}

export interface CredentialReader {
  /** True if any of the headers is there, right or wrong. */
  readonly isPresented: (request: FastifyRequest) => boolean
  /** For a request that presents one; throws if it is not exactly one well-formed credential. */
  readonly readCredential: (request: FastifyRequest) => PresentedCredential
}

const MAX_TENANT_LENGTH = 64
const MAX_TOKEN_LENGTH = 1_024

/** Visible ASCII without the comma: a value with one may be two values that Node or a proxy has joined. */
const plainText = /^[\x21-\x2b\x2d-\x7e]+$/
const canonicalInteger = /^(?:0|[1-9][0-9]*)$/

/** True for what may ever stand in the tenant header, whatever its configured format. */
export function isTenantText (text: string): boolean {
  return text.length <= MAX_TENANT_LENGTH && plainText.test(text)
}

/** True for the one way to write a whole number, up to what a JSON number can carry. */
export function isCanonicalInteger (text: string): boolean {
  return text.length <= 16 && canonicalInteger.test(text) && Number.isSafeInteger(Number(text))
}

/** True for what may ever stand in the token header; its length is bounded before anything is hashed. */
export function isAccessToken (text: string): boolean {
  return text.length <= MAX_TOKEN_LENGTH && plainText.test(text)
}

export function createCredentialReader ({ tenantNames, tokenNames, isTenant }: CredentialReaderOptions): CredentialReader {
  const allNames = [...tenantNames, ...tokenNames]
  return {
    isPresented: ({ raw: { rawHeaders } }) => nextOf(allNames, rawHeaders, 0) < rawHeaders.length,
    readCredential (request) {
      const tenant = readHalf(request, tenantNames)
      const token = readHalf(request, tokenNames)
      if (tenant === undefined) throw incomplete(request, { missing: tenantNames, present: tokenNames }, 'tenant-header-missing')
      if (token === undefined) throw incomplete(request, { missing: tokenNames, present: tenantNames }, 'token-header-missing')
      if (!isTenantText(tenant) || !isTenant(tenant)) throw refusal('ERR_LEGACY_HEADERS_CREDENTIALS_INVALID', { reason: 'tenant-malformed' })
      if (!isAccessToken(token)) throw refusal('ERR_LEGACY_HEADERS_CREDENTIALS_INVALID', { reason: 'token-malformed' })
      return { tenant, token }
    }
  }
}

/** The same value twice is refused as well: who could add a second line could have changed the first. */
function readHalf ({ raw: { rawHeaders } }: FastifyRequest, names: readonly string[]): string | undefined {
  const at = nextOf(names, rawHeaders, 0)
  if (at >= rawHeaders.length) return undefined
  const again = nextOf(names, rawHeaders, at + 2)
  if (again < rawHeaders.length) throw ambiguous(rawHeaders[at]!.toLowerCase() === rawHeaders[again]!.toLowerCase() ? 'header-repeated' : 'header-in-both-spellings')
  const value = rawHeaders[at + 1]!
  if (value.includes(',')) throw ambiguous('header-joined')
  return value
}

/** Where the next field line of one of these names stands, names and values in turn; the length where there is none. */
function nextOf (names: readonly string[], rawHeaders: readonly string[], from: number): number {
  let at = from
  while (at < rawHeaders.length && !isOneOf(names, rawHeaders[at]!)) at += 2
  return at
}

function isOneOf (names: readonly string[], candidate: string): boolean {
  for (let i = 0; i < names.length; i++) if (isSameIgnoringCase(candidate, names[i]!)) return true
  return false
}

function ambiguous (reason: LegacyHeadersReason) {
  return refusal('ERR_LEGACY_HEADERS_CREDENTIALS_AMBIGUOUS', { reason })
}

interface Halves { readonly missing: readonly string[], readonly present: readonly string[] }

/** A half that came without an underscore says nothing about the other's fate; one that came with it proves that underscores pass. */
function incomplete (request: FastifyRequest, { missing, present }: Halves, reason: 'tenant-header-missing' | 'token-header-missing') {
  const underscoresPass = present.some((name) => name.includes('_') && headerValues(request, name).length > 0)
  const isDropped = !underscoresPass && missing[0]!.includes('_')
  return refusal('ERR_LEGACY_HEADERS_CREDENTIALS_INCOMPLETE', { reason: isDropped ? `${reason}-underscore-dropped` : reason })
}
