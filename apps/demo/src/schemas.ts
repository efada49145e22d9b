/** Pieces of JSON schemas. */

/** Text that a database takes as it is: no control characters, and no half of a surrogate pair. */
export function textOf (maxLength: number): object {
  return { type: 'string', minLength: 1, maxLength, pattern: '^[^\\p{Cc}\\p{Cs}]*$' }
}

/** Nothing but what is named. */
export function objectOf (required: readonly string[], properties: Readonly<Record<string, object>>): object {
  return { type: 'object', required, additionalProperties: false, properties }
}
