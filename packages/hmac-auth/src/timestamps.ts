/** When a signature was made: the ways to write it, each strictly read, and the window in which it counts. */

import { refusal, type HmacAuthReason } from './errors.js'

export const timestampFormats = ['seconds', 'milliseconds', 'http-date', 'iso-8601'] as const
/** `http-date` is the one form that is generated today (IMF-fixdate, RFC 9110 section 5.6.7); `iso-8601` is UTC, `2026-11-26T12:00:00Z`, with or without milliseconds. */
export type TimestampFormat = typeof timestampFormats[number]

/** Milliseconds since the epoch. Throws an `AuthError` for anything but the one way to write a moment. */
export function parseTimestamp (text: string | undefined, format: TimestampFormat): number {
  const ms = text === undefined ? NaN : readers[format](text)
  if (!Number.isSafeInteger(ms)) throw refusal('ERR_HMAC_AUTH_SIGNATURE_INVALID', { reason: 'timestamp-malformed' })
  return ms
}

export function formatTimestamp (ms: number, format: TimestampFormat): string {
  return writers[format](ms)
}

const readers: Readonly<Record<TimestampFormat, (text: string) => number>> = {
  'seconds': (text) => wholeNumber(text, 12) * 1000,
  'milliseconds': (text) => wholeNumber(text, 15),
  'http-date' (text) {
    // One moment has one spelling, so what reads back otherwise (another zone, 32 November) is none.
    const ms = Date.parse(text)
    return Number.isNaN(ms) || new Date(ms).toUTCString() !== text ? NaN : ms
  },
  'iso-8601' (text) {
    const ms = Date.parse(text)
    if (Number.isNaN(ms)) return NaN
    const whole = new Date(ms).toISOString()
    return text === whole || text === whole.replace('.000Z', 'Z') ? ms : NaN
  }
}

const writers: Readonly<Record<TimestampFormat, (ms: number) => string>> = {
  'seconds': (ms) => String(Math.floor(ms / 1000)),
  'milliseconds': (ms) => String(ms),
  'http-date': (ms) => new Date(ms).toUTCString(),
  'iso-8601': (ms) => new Date(ms).toISOString()
}

function wholeNumber (text: string, mostDigits: number): number {
  return text.length <= mostDigits && /^(?:0|[1-9][0-9]*)$/.test(text) ? Number(text) : NaN
}

export interface TimeWindow {
  readonly windowMs: number
  readonly toleranceMs: number
}

interface Dated { readonly datedAtMs: number, readonly expiresAtMs?: number | undefined }

/** The moment from which a signature counts no more, and until which it must be remembered that it was used. */
export function endOf ({ datedAtMs, expiresAtMs = Infinity }: Dated, { windowMs, toleranceMs }: TimeWindow): number {
  return Math.min(datedAtMs + windowMs, expiresAtMs) + toleranceMs
}

/** Throws an `AuthError` if the signature does not count now. At its very end it counts no more: the store forgets it then. */
export function judgeTime (dated: Dated, now: number, window: TimeWindow): void {
  if (!(now < endOf(dated, window))) throw untimely('too-old')
  if (!(dated.datedAtMs <= now + window.toleranceMs)) throw untimely('ahead')
}

function untimely (reason: HmacAuthReason) {
  return refusal('ERR_HMAC_AUTH_TIMESTAMP_EXPIRED', { reason })
}
