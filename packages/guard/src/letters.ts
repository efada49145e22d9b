/** Comparing names of the protocol, whose case does not matter (RFC 9110 sections 5.1 and 11.1). */

/**
 * Whether a value starts with what is given in lower case, in any case. Only so much of it is copied, which must not be the
 * credential, and too little for V8 to keep the rest alive.
 */
export function startsWithIgnoringCase (value: string, start: string): boolean {
  return value.slice(0, start.length).toLowerCase() === start
}

/** Whether a value is the same as what is given in lower case, in any case. */
export function isSameIgnoringCase (value: string, lowerCase: string): boolean {
  return value.length === lowerCase.length && (value === lowerCase || value.toLowerCase() === lowerCase)
}
