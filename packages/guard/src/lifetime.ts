/** Lifetimes of keys and credentials: several are live at once while one replaces another. */

import type { OptionReader } from './options.js'

/** When a key or credential counts. Both ends may be left open. */
export interface Lifetime {
  /** Counts from this moment on. Default: always has. */
  readonly notBefore?: Date
  /** Counts until before this moment. Default: for ever. */
  readonly notAfter?: Date
}

export interface LifetimeMs { readonly notBeforeMs: number, readonly notAfterMs: number }

/** Reads `notBefore` and `notAfter`: `Date` objects, the first before the second. */
export function readLifetime (reader: OptionReader): LifetimeMs {
  const notBeforeMs = reader.instant('notBefore') ?? -Infinity
  const notAfterMs = reader.instant('notAfter') ?? Infinity
  if (notBeforeMs >= notAfterMs) throw reader.error('notAfter', 'must be later than notBefore')
  return { notBeforeMs, notAfterMs }
}

export function isLive ({ notBeforeMs, notAfterMs }: LifetimeMs, nowMs: number): boolean {
  return nowMs >= notBeforeMs && nowMs < notAfterMs
}
