/** The Fastify side of bearer-jwt. */

import type { FastifyPluginAsync } from 'fastify'
import { challenge, guardPluginOf, isThenable, type AuthError, type Guard, type GuardContext } from '@sallyport/guard'
import { refusal } from './errors.js'
import { optionNames, resolveOptions, type BearerJwtOptions, type ResolvedOptions } from './options.js'
import type { JwtClaims } from './parse-token.js'
import { createTokenFinder, readToken } from './read-token.js'
import { requirementNames, resolveRequirement, type BearerJwtRequirements } from './requirements.js'
import type { RevocationList } from './revocations.js'
import { createTrust } from './trust.js'
import { createTokenVerifier, type BearerJwtIdentity, type VerifiedToken } from './verify-token.js'

/** The guard as `app.bearerJwt`; for `identity`-shaped claims, name them: `guardOf<BearerJwtGuard<Partner>>(app, 'partnerJwt')`. */
export type BearerJwtGuard<C = JwtClaims> = Guard<BearerJwtIdentity<C>, BearerJwtRequirements>

declare module 'fastify' {
  interface FastifyInstance {
    /** Judges bearer tokens; see `@sallyport/bearer-jwt`. */
    bearerJwt: BearerJwtGuard
  }
}

/**
 * Registers a guard for signed bearer tokens as `app.bearerJwt` (or under the name `as`).
 * Throws `OptionsError` for wrong options, weak keys, and a name that is taken.
 */
export const bearerJwt: FastifyPluginAsync<BearerJwtOptions<unknown>> = guardPluginOf<BearerJwtOptions<unknown>, BearerJwtIdentity<unknown>>({
  owner: '@sallyport/bearer-jwt',
  name: 'bearerJwt',
  optionNames,
  async define ({ name, reader, realm, clock }: GuardContext) {
    const options = resolveOptions(reader)
    const verifyToken = createTokenVerifier(options, await createTrust(options.trust))
    const { revocations } = options
    const judge = (found: VerifiedToken): VerifiedToken | Promise<VerifiedToken> => revocations === undefined ? found : ifNotRevoked(found, revocations)
    const where = headerParameter(options)
    const finder = createTokenFinder(options.sources)
    return {
      credentials: options.sources,
      proves: [...(options.tenant === undefined ? [] : ['tenant' as const]), ...(options.subject === undefined ? [] : ['subject' as const])],
      hideCredentials: options.hideCredentials,
      challenges: {
        absent: challenge('Bearer', { realm, ...where }),
        rejected: challenge('Bearer', { realm, ...where, error: 'invalid_token' })
      },
      notes: notesOf(options),
      missing: () => refusal('ERR_BEARER_JWT_TOKEN_MISSING'),
      isPresented: finder.isPresented,
      judge (request) {
        const token = readToken(finder.take(request), options.maxTokenBytes)
        const found = verifyToken(token, clock())
        return found instanceof Promise ? found.then(judge) : judge(found)
      },
      ...(revocations?.noteUse !== undefined && {
        committed: (_request, judgement) => {
          const { id, dates } = judgement as VerifiedToken
          if (id !== undefined) revocations.noteUse!(id, (dates.exp ?? 0) * 1000)
        }
      }),
      requirementNames,
      requirement: (given) => resolveRequirement(given, { name, realm, options })
    }
  }
})

/** A revoked token is refused; where nobody can tell, the request is unavailable. As `askResolver` does it, without its closures: it is asked for each request. */
function ifNotRevoked (found: VerifiedToken, list: RevocationList): VerifiedToken | Promise<VerifiedToken> {
  let isRevoked
  try {
    isRevoked = list.isRevoked(found.revocable)
  } catch (cause) {
    throw unknowable(cause)
  }
  if (!isThenable(isRevoked)) return unlessRevoked(found, isRevoked)
  return Promise.resolve(isRevoked).then((later) => unlessRevoked(found, later), (cause: unknown) => { throw unknowable(cause) })
}

function unlessRevoked (found: VerifiedToken, isRevoked: boolean): VerifiedToken {
  if (isRevoked !== false) throw refusal('ERR_BEARER_JWT_TOKEN_REVOKED')
  return found
}

function unknowable (cause: unknown): AuthError {
  return refusal('ERR_BEARER_JWT_STATE_UNAVAILABLE', { cause, retryAfterSeconds: 1 })
}

/** Says in the challenge where the token belongs, if not in `Authorization`. */
function headerParameter ({ sources: [source] }: ResolvedOptions): Record<string, string> {
  if (source === undefined || 'cookie' in source || source.header === 'authorization') return {}
  return { header: source.header }
}

function notesOf ({ trust: { shortSecrets } }: ResolvedOptions): readonly string[] {
  return shortSecrets === undefined ? [] : [`secrets of ${shortSecrets.minimumBytes} bytes allowed: ${shortSecrets.reason}`]
}
