/** Where the tokens of a tenant come from: a compiled list, or the user's resolver, which is the one impure thing here. */

import { askResolver, inTime, isThenable, type AuthError, type Judgement } from '@sallyport/guard'
import { refusal, type LegacyHeadersReason } from './errors.js'
import { readTokens, type ResolvedOptions } from './options.js'
import type { PresentedCredential } from './read-credential.js'
import { MAX_TOKENS, verifyCredential, type LegacyHeadersIdentity, type TokenRecord } from './verify-credential.js'

type Proof = Judgement<LegacyHeadersIdentity>
type Tokens = readonly TokenRecord[]

/** Proves a credential, or throws or rejects: `rejected` for a wrong one, `unavailable` for an outage of the resolver. */
export type Prover = (credential: PresentedCredential, now: number) => Proof | Promise<Proof>

interface CredentialSource {
  /** Empty for an unknown tenant. */
  readonly tokensOf: (tenant: string) => Tokens | Promise<Tokens>
  /** The longest list that `tokensOf` can give: as many comparisons are made for every tenant, known or not. */
  readonly longest: number
}

type SourceOptions = Pick<ResolvedOptions, 'credentials' | 'resolverTimeoutMs'>

/** From a list a credential is proved at once, without a promise; so it is where a resolver answers without one. */
export function createProver (options: SourceOptions): Prover {
  const { tokensOf, longest: comparisons } = createSource(options)
  return function proveCredential ({ tenant, token }, now) {
    const tokens = tokensOf(tenant)
    return tokens instanceof Promise
      ? tokens.then((later) => verifyCredential({ tokens: later, token, now, comparisons }))
      : verifyCredential({ tokens, token, now, comparisons })
  }
}

const none: Tokens = Object.freeze([])

function createSource ({ credentials, resolverTimeoutMs }: SourceOptions): CredentialSource {
  if (typeof credentials !== 'function') {
    return {
      tokensOf: (tenant) => credentials.get(tenant) ?? none,
      longest: Math.max(...[...credentials.values()].map(({ length }) => length))
    }
  }
  return {
    longest: MAX_TOKENS,
    tokensOf (tenant) {
      let late: AuthError | undefined
      const ask = (): unknown => {
        const answer: unknown = credentials(tenant)
        return isThenable(answer) ? inTime(answer, resolverTimeoutMs, () => (late = unavailable('resolver-too-slow'))) : answer
      }
      return askResolver(ask, (answer) => readAnswer(tenant, answer), (cause) => late !== undefined && cause === late ? late : unavailable('resolver-failed', cause))
    }
  }
}

/** Stands in for the answer about an unknown tenant, so that it costs as much to read as that about a tenant with one token. */
const standIn = Object.freeze([Object.freeze({ digest: '0'.repeat(64) })])

/** Nothing of an answer is believed unchecked: a wrong one would else mean "no such tenant", or worse. */
function readAnswer (tenant: string, answer: unknown): Tokens {
  const isUnknown = answer === undefined || (Array.isArray(answer) && answer.length === 0)
  try {
    const tokens = readTokens(tenant, isUnknown ? standIn : answer, 'answer')
    return isUnknown ? none : tokens
  } catch (error) {
    throw unavailable('resolver-answer', error)
  }
}

function unavailable (reason: LegacyHeadersReason, cause?: unknown) {
  return refusal('ERR_LEGACY_HEADERS_CREDENTIALS_UNAVAILABLE', { reason, cause })
}
