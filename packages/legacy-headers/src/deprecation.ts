/** The way out: what answers announce, and when requests are paused or refused for good. */

import { challenge, isAuthError, reasonOf, type AuthError } from '@sallyport/guard'
import { refusal, type LegacyHeadersReason } from './errors.js'

/** The calendar, checked and in milliseconds since the epoch. */
export interface Calendar {
  readonly deprecatedAtMs: number
  /** `Infinity`: no sunset is set. */
  readonly sunsetAtMs: number
  readonly link: string | undefined
  /** In order of time, without overlaps. */
  readonly brownouts: readonly { readonly fromMs: number, readonly toMs: number }[]
  /** Tenant to its own, later sunset. */
  readonly extensions: ReadonlyMap<string, number>
}

type Headers = Readonly<Record<string, string>>

export interface Deprecation {
  /** For the audit. */
  readonly notes: readonly string[]
  /** The headers for an answer; `tenant` only where it was proved and let through. Prebuilt. */
  readonly headersFor: (tenant: string | undefined) => Headers
  /** What a tenant is refused with at this time although its credential is right. */
  readonly refusalFor: (tenant: string, now: number) => AuthError | undefined
  /** What to throw in place of an error that proved nobody. Only who holds a right token may learn of an extension. */
  readonly overrule: (error: unknown, now: number) => unknown
}

export function createDeprecation (calendar: Calendar, realm: string): Deprecation {
  const { sunsetAtMs, brownouts, extensions } = calendar
  const challenges = {
    paused: challenge('LegacyHeaders', { realm, error: 'paused' }),
    retired: challenge('LegacyHeaders', { realm, error: 'retired' })
  }
  const general = headersOf(calendar, sunsetAtMs)
  const extended = new Map([...extensions].map(([tenant, untilMs]) => [tenant, headersOf(calendar, untilMs)]))
  const lastSunsetAtMs = Math.max(sunsetAtMs, ...extensions.values())

  const retired = (reason: LegacyHeadersReason): AuthError => {
    return refusal('ERR_LEGACY_HEADERS_RETIRED', { reason, challenge: challenges.retired })
  }
  const paused = (now: number, reason: LegacyHeadersReason): AuthError | undefined => {
    for (const { fromMs, toMs } of brownouts) {
      if (now < fromMs || now >= toMs) continue
      const retryAfterSeconds = Math.ceil((toMs - now) / 1000)
      return refusal('ERR_LEGACY_HEADERS_PAUSED', { reason, retryAfterSeconds, challenge: challenges.paused })
    }
    return undefined
  }

  return {
    notes: notesOf(calendar),
    headersFor: (tenant) => (tenant === undefined ? undefined : extended.get(tenant)) ?? general,
    refusalFor (tenant, now) {
      return now < (extensions.get(tenant) ?? sunsetAtMs) ? paused(now, 'brownout') : retired('sunset')
    },
    overrule (error, now) {
      if (!isAuthError(error)) return error
      const reason = reasonOf(error) as LegacyHeadersReason
      // An outage counts as long as somebody could pass: then the answer would depend on what can't be known.
      const endsAtMs = error.outcome === 'unavailable' ? lastSunsetAtMs : sunsetAtMs
      if (!(now < endsAtMs)) return retired(reason)
      return now < sunsetAtMs ? paused(now, reason) ?? error : error
    }
  }
}

/** RFC 9745 section 2.1 (a structured date), RFC 8594 section 3 (an HTTP-date), and links to where people can read on. */
function headersOf ({ deprecatedAtMs, link }: Calendar, sunsetAtMs: number): Headers {
  const hasSunset = sunsetAtMs !== Infinity
  const relations = hasSunset ? ['deprecation', 'sunset'] : ['deprecation']
  return Object.freeze({
    deprecation: `@${Math.floor(deprecatedAtMs / 1000)}`,
    ...(hasSunset && { sunset: new Date(sunsetAtMs).toUTCString() }),
    ...(link !== undefined && { link: relations.map((relation) => `<${link}>; rel="${relation}"; type="text/html"`).join(', ') })
  })
}

function notesOf ({ deprecatedAtMs, sunsetAtMs, extensions }: Calendar): readonly string[] {
  const sunset = sunsetAtMs === Infinity ? 'no sunset' : `sunset ${dayOf(sunsetAtMs)}`
  const later = extensions.size === 0 ? '' : `, later for ${extensions.size} tenant(s)`
  return Object.freeze([`deprecated ${dayOf(deprecatedAtMs)}, ${sunset}${later}`])
}

function dayOf (ms: number): string {
  return new Date(ms).toISOString().slice(0, 10)
}
