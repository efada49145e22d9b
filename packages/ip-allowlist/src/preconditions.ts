/** Which version of a list a request speaks of: `If-Match` and `If-None-Match` (RFC 9110 section 13.1). */

import { routesError } from './errors.js'

export interface Precondition {
  /** The opaque tags of a header, or `*` for any version. */
  readonly match: '*' | readonly string[] | undefined
  readonly noneMatch: '*' | readonly string[] | undefined
}

const entityTags = /^(?:W\/)?"[\x21\x23-\x7e]*"(?:[ \t]*,[ \t]*(?:W\/)?"[\x21\x23-\x7e]*")*$/
const entityTag = /(W\/)?"([\x21\x23-\x7e]*)"/g

/** Throws 400 for a header that is no list of entity-tags. */
export function readPrecondition (headers: { readonly 'if-match'?: string | undefined, readonly 'if-none-match'?: string | undefined }): Precondition {
  return { match: tagsIn(headers['if-match'], 'If-Match', 'strong'), noneMatch: tagsIn(headers['if-none-match'], 'If-None-Match', 'weak') }
}

export function isConditional ({ match, noneMatch }: Precondition): boolean {
  return match !== undefined || noneMatch !== undefined
}

/** Whether a list of this version (`undefined`: no list) is what the request expects. */
export function holds ({ match, noneMatch }: Precondition, version: string | undefined): boolean {
  return (match === undefined || isAmong(match, version)) && (noneMatch === undefined || !isAmong(noneMatch, version))
}

/** The `ETag` of a version. */
export function entityTagOf (version: string): string {
  return `"${version}"`
}

function isAmong (tags: '*' | readonly string[], version: string | undefined): boolean {
  return version !== undefined && (tags === '*' || tags.includes(version))
}

/** A weak tag never matches where the comparison is strong (RFC 9110 section 8.8.3.2). */
function tagsIn (header: string | undefined, name: string, comparison: 'strong' | 'weak'): Precondition['match'] {
  if (header === undefined) return undefined
  if (header === '*') return '*'
  if (!entityTags.test(header)) throw routesError('ERR_IP_ALLOWLIST_REQUEST_INVALID', `${name} must be * or entity-tags in quotation marks`)
  return [...header.matchAll(entityTag)].flatMap(([, weak, tag]) => weak !== undefined && comparison === 'strong' ? [] : [tag!])
}
