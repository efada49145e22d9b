/** The Fastify side of bearer-jwt. */

import type { FastifyPluginAsync } from 'fastify'
import { challenge, guardPluginOf, type Guard, type GuardContext } from '@sallyport/guard'
import { refusal } from './errors.js'
import type { TrustedKey } from './keys.js'
import { optionNames, resolveOptions, type BearerJwtOptions, type ResolvedOptions } from './options.js'
import type { JwtClaims } from './parse-token.js'
import { createKeyedCheck, createSignatureCheck, type SignatureCheck } from './private-jwt.js'
import { findTokens, readToken } from './read-token.js'
import { requirementNames, resolveRequirement, type BearerJwtRequirements } from './requirements.js'
import { createTokenVerifier, type BearerJwtIdentity, type CheckSignature, type VerifiedToken } from './verify-token.js'

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
    const verifyToken = createTokenVerifier(options, await createCheck(options))
    const verified = new WeakMap<BearerJwtIdentity<unknown>, VerifiedToken>()
    const judgementOf = (found: VerifiedToken) => {
      const { identity } = found
      verified.set(identity, found)
      const { tenant, subject, scopes, keyId } = identity
      const principal = { scopes, ...(tenant !== undefined && { tenant }), ...(subject !== undefined && subject !== '' && { subject }) }
      return { identity, principal, matched: keyId }
    }
    const where = headerParameter(options)
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
      isPresented: (request) => findTokens(request, options.sources).length > 0,
      judge (request) {
        const token = readToken(findTokens(request, options.sources), options.maxTokenBytes)
        const found = verifyToken(token, clock())
        return found instanceof Promise ? found.then(judgementOf) : judgementOf(found)
      },
      requirementNames,
      requirement: (given) => resolveRequirement(given, { name, realm, options, verified: (identity) => verified.get(identity)! })
    }
  }
})

/** Listed keys get a check each; keys from a resolver are checked as they come. */
async function createCheck ({ keys }: ResolvedOptions): Promise<CheckSignature> {
  if (typeof keys === 'function') return createKeyedCheck()
  const checks = new Map<TrustedKey, SignatureCheck>()
  for (const key of keys) checks.set(key, await createSignatureCheck(key))
  return (token, key) => checks.get(key)!(token)
}

/** Says in the challenge where the token belongs, if not in `Authorization`. */
function headerParameter ({ sources: [source] }: ResolvedOptions): Record<string, string> {
  if (source === undefined || 'cookie' in source || source.header === 'authorization') return {}
  return { header: source.header }
}

function notesOf ({ keyRules: { shortSecrets } }: ResolvedOptions): readonly string[] {
  return shortSecrets === undefined ? [] : [`secrets of ${shortSecrets.minimumBytes} bytes allowed: ${shortSecrets.reason}`]
}
