/** `WWW-Authenticate` values (RFC 9110 section 11.6.1, RFC 6750 section 3). */

/** Builds one challenge: `challenge('Bearer', { realm: 'api', error: 'invalid_token' })`. Every value is quoted and escaped. */
export function challenge (scheme: string, parameters: Readonly<Record<string, string>>): string {
  const parts = Object.entries(parameters).map(([name, value]) => `${name}=${quoted(value)}`)
  return parts.length === 0 ? scheme : `${scheme} ${parts.join(', ')}`
}

/** Joins the challenges of several guards into one field value, each once. */
export function joinChallenges (challenges: readonly string[]): string {
  return [...new Set(challenges)].join(', ')
}

/** A quoted-string (RFC 9110 section 5.6.4); what may not stand in one is replaced, so that nothing can split a header. */
function quoted (value: string): string {
  return `"${value.replace(/[^\t\x20-\x7e]/g, '?').replace(/["\\]/g, '\\$&')}"`
}
