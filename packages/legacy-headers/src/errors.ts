/** The refusal table of this package, and the closed set of reasons behind it. */

import { defineRefusals, type AuthError, type RefusalDetails, type RefusalEntry } from '@sallyport/guard'

export const OWNER = '@sallyport/legacy-headers'

/** What this plugin refuses with. Messages are constants: nothing of a request is ever in them. */
export const legacyHeadersRefusals = {
  /** Neither header was sent, in either spelling. */
  ERR_LEGACY_HEADERS_CREDENTIALS_MISSING: { outcome: 'absent', message: 'Authentication is required' },
  /** One header was sent without the other. */
  ERR_LEGACY_HEADERS_CREDENTIALS_INCOMPLETE: { outcome: 'rejected', message: 'One of the two credential headers is missing' },
  /** A header was sent more than once, in both spellings, or as a list; the same value twice counts too. */
  ERR_LEGACY_HEADERS_CREDENTIALS_AMBIGUOUS: { outcome: 'rejected', message: 'A credential header was sent more than once' },
  /** Malformed, an unknown tenant, a wrong token, or a token outside its lifetime: never told apart. */
  ERR_LEGACY_HEADERS_CREDENTIALS_INVALID: { outcome: 'rejected', message: 'The credentials are not valid' },
  /** The resolver threw, took too long, or answered with something else than a list of tokens. */
  ERR_LEGACY_HEADERS_CREDENTIALS_UNAVAILABLE: { outcome: 'unavailable', message: 'The credentials could not be checked' },
  /** A brown-out: refused for a while, right or wrong, with `Retry-After` until its end. */
  ERR_LEGACY_HEADERS_PAUSED: { outcome: 'rejected', message: 'This way to authenticate is paused ahead of its end; use its successor' },
  /** The sunset has passed, and the credential is none that was proved to belong to a tenant with an extension. */
  ERR_LEGACY_HEADERS_RETIRED: { outcome: 'rejected', message: 'This way to authenticate has ended; use its successor' }
} as const satisfies Record<string, RefusalEntry>

export type LegacyHeadersRefusalCode = keyof typeof legacyHeadersRefusals

/** Every reason that a decision event of this plugin can name, and what an operator should make of it. */
export const legacyHeadersReasons = {
  'tenant-header-missing': 'The token came without the tenant header',
  'tenant-header-missing-underscore-dropped': 'The token came in a header without an underscore, but the tenant header did not come: a proxy seems to drop names with underscores (nginx: underscores_in_headers)',
  'token-header-missing': 'The tenant came without the token header',
  'token-header-missing-underscore-dropped': 'The tenant came in a header without an underscore, but the token header did not come: a proxy seems to drop names with underscores (nginx: underscores_in_headers)',
  'header-repeated': 'A header has more than one field line',
  'header-in-both-spellings': 'A header came with an underscore and with a dash',
  'header-joined': 'A value holds a comma, so it may be several values that were joined on the way',
  'tenant-malformed': 'The tenant does not have the configured format',
  'token-malformed': 'The token is empty, too long, or holds a character that no token has',
  'tenant-unknown': 'There is no token for this tenant',
  'token-wrong': 'The token is none of this tenant\'s tokens',
  'token-early': 'The token is right, but before its notBefore',
  'token-expired': 'The token is right, but past its notAfter',
  'resolver-failed': 'The resolver threw or rejected',
  'resolver-too-slow': 'The resolver took longer than resolverTimeoutMs',
  'resolver-answer': 'The resolver answered with something else than a list of tokens',
  'brownout': 'The credential is right, and a brown-out is on',
  'sunset': 'The credential is right, and the sunset of its tenant has passed'
} as const

export type LegacyHeadersReason = keyof typeof legacyHeadersReasons

type Details = Omit<RefusalDetails, 'reason'> & { readonly reason?: LegacyHeadersReason }

export const refusal: (code: LegacyHeadersRefusalCode, details?: Details) => AuthError = defineRefusals<LegacyHeadersRefusalCode>(legacyHeadersRefusals)
