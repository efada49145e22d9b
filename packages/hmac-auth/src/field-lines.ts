/** Reading field lines: what stands in them once, what they hold together, and what may be signed. */

import { isSameIgnoringCase, type AuthError } from '@sallyport/guard'
import { invalid, refusal } from './errors.js'
import type { FieldLines } from './signature-base.js'

/** The one line of a field, without outer whitespace; `undefined` where there is none. Refuses a field that came twice. */
export function soleLine (fieldLines: FieldLines, name: string, repeated: () => AuthError = ambiguous): string | undefined {
  let found: string | undefined
  for (let i = 0; i < fieldLines.length; i += 2) {
    if (!isSameIgnoringCase(fieldLines[i]!, name)) continue
    if (found !== undefined) throw repeated()
    found = fieldLines[i + 1]!
  }
  return found === undefined ? undefined : trimmed(found)
}

/** All lines of a field as one list (RFC 9110 section 5.3); `undefined` where there is none. */
export function joinedLines (fieldLines: FieldLines, name: string): string | undefined {
  let joined: string | undefined
  for (let i = 0; i < fieldLines.length; i += 2) {
    if (!isSameIgnoringCase(fieldLines[i]!, name)) continue
    joined = joined === undefined ? fieldLines[i + 1]! : `${joined}, ${fieldLines[i + 1]!}`
  }
  return joined
}

/** True if a field has a line, with a value of that kind where one is asked for. */
export function hasLine (fieldLines: FieldLines, name: string, isWanted?: (value: string) => boolean): boolean {
  for (let i = 0; i < fieldLines.length; i += 2) {
    if (!isSameIgnoringCase(fieldLines[i]!, name)) continue
    if (isWanted === undefined || isWanted(fieldLines[i + 1]!)) return true
  }
  return false
}

/** Optional whitespace is SP and HTAB (RFC 9110 section 5.6.3), not what JavaScript takes for it. */
function trimmed (value: string): string {
  return /^[ \t]|[ \t]$/.test(value) ? value.replace(/^[ \t]+|[ \t]+$/g, '') : value
}

/** What may stand in the place of a nonce: up to 256 printable ASCII characters. */
export function isNonce (text: string): boolean {
  return text.length <= 256 && /^[\x20-\x7e]+$/.test(text)
}

/** A value that can be signed: what is not ASCII has several readings as bytes. */
export function signable (value: string): string {
  if (!/^[\t\x20-\x7e]*$/.test(value)) throw invalid('component-unusable')
  return value
}

function ambiguous (): AuthError {
  return refusal('ERR_HMAC_AUTH_SIGNATURE_AMBIGUOUS', { reason: 'signature-repeated' })
}

/** Bytes of a MAC or digest in their one spelling; `undefined` for any other text. Hexadecimal digits may be of either case. */
export function decodeBytes (text: string, encoding: 'hex' | 'base64'): Buffer | undefined {
  if (encoding === 'hex') return /^(?:[0-9a-f]{2})+$/i.test(text) ? Buffer.from(text, 'hex') : undefined
  const bytes = Buffer.from(text, 'base64')
  return bytes.length > 0 && bytes.toString('base64') === text ? bytes : undefined
}

/** What may ever stand in the place of a key id, whatever the profile. */
export function isKeyId (text: string): boolean {
  return text.length <= 256 && /^[\x21\x23-\x2b\x2d-\x5b\x5d-\x7e]+$/.test(text)
}
