/** The options that say what a token's claims must be. */

import type { OptionReader } from '@sallyport/guard'

export interface ClaimRules {
  readonly issuers: readonly string[] | undefined
  readonly audiences: readonly string[] | undefined
  readonly typ: string | undefined
  readonly requireExpiration: boolean
  readonly requiredClaims: readonly string[]
  readonly maxLifetimeSeconds: number | undefined
  readonly maxAgeSeconds: number | undefined
  readonly clockToleranceSeconds: number
}

/** Throws `OptionsError` for rules that contradict each other. */
export function readClaimRules (reader: OptionReader): ClaimRules {
  const maxLifetimeSeconds = reader.integer('maxLifetimeSeconds', { min: 1 })
  const clockToleranceSeconds = reader.integer('clockToleranceSeconds', { min: 0, max: 600 }, 0)
  if (maxLifetimeSeconds !== undefined && clockToleranceSeconds > maxLifetimeSeconds / 2) {
    throw reader.error('clockToleranceSeconds', 'must be at most half of maxLifetimeSeconds, or the limit would mean little')
  }
  const requireExpiration = reader.flag('requireExpiration', true)
  if (maxLifetimeSeconds !== undefined && !requireExpiration) throw reader.error('requireExpiration', 'can\'t be false with maxLifetimeSeconds')
  return Object.freeze({
    issuers: readTextOrTexts(reader, 'issuer'),
    audiences: readTextOrTexts(reader, 'audience'),
    typ: reader.text('typ'),
    requireExpiration,
    requiredClaims: reader.texts('requiredClaims') ?? [],
    maxLifetimeSeconds,
    maxAgeSeconds: reader.integer('maxAgeSeconds', { min: 1 }),
    clockToleranceSeconds
  })
}

export function readTextOrTexts (reader: OptionReader, name: string): readonly string[] | undefined {
  if (Array.isArray(reader.raw(name))) return reader.texts(name)
  const one = reader.text(name)
  return one === undefined ? undefined : [one]
}
