/** Registers the guard: the only file that meets Fastify. Everything that does not depend on a request is built here, once. */

import { challenge, guardPluginOf, type Guard, type Judgement } from '@sallyport/guard'
import type { FastifyPluginAsync, FastifyRequest } from 'fastify'
import { createProver } from './credential-source.js'
import { createDeprecation } from './deprecation.js'
import { OWNER, refusal } from './errors.js'
import { optionNames, resolveOptions, type LegacyHeadersOptions } from './options.js'
import { createCredentialReader } from './read-credential.js'
import { createUsageLog, type LegacyHeadersUsage } from './usage.js'
import type { LegacyHeadersIdentity } from './verify-credential.js'

/** The guard as it hangs on the instance. */
export type LegacyHeadersGuard = Guard<LegacyHeadersIdentity> & {
  /** Who still uses the headers, how often, since when and on which routes: a frozen snapshot of this process's counts. */
  readonly usage: () => LegacyHeadersUsage
}

declare module 'fastify' {
  interface FastifyInstance {
    legacyHeaders: LegacyHeadersGuard
  }
}

type Proof = Judgement<LegacyHeadersIdentity>

/**
 * Registers the guard `app.legacyHeaders` for the deprecated pair of plaintext headers, `company_id` and `access_token`.
 * It protects nothing by itself: routes name it in their policy.
 * Throws `OptionsError` at registration for options that could not be meant.
 */
export const legacyHeaders: FastifyPluginAsync<LegacyHeadersOptions> = guardPluginOf<LegacyHeadersOptions, LegacyHeadersIdentity>({
  owner: OWNER,
  name: 'legacyHeaders',
  optionNames,
  define ({ reader, realm, clock }) {
    const options = resolveOptions(reader)
    const { isPresented, readCredential } = createCredentialReader(options)
    const prove = createProver(options)
    const deprecation = options.deprecation && createDeprecation(options.deprecation, realm)
    const usage = createUsageLog(clock())
    /** Whose right credential the calendar refused. Counted only when that is answered, because judging must change nothing. */
    const turnedAway = new WeakMap<FastifyRequest, string>()

    function admit (request: FastifyRequest, proof: Proof, now: number): Proof {
      const { tenant } = proof.identity
      const refused = deprecation?.refusalFor(tenant, now)
      if (refused === undefined) return proof
      turnedAway.set(request, tenant)
      throw refused
    }

    function refuse (error: unknown, now: number): never {
      throw deprecation === undefined ? error : deprecation.overrule(error, now)
    }

    function judge (request: FastifyRequest): Proof | Promise<Proof> {
      const credential = readCredential(request)
      const now = clock()
      let proof
      try {
        proof = prove(credential, now)
      } catch (error) {
        refuse(error, now)
      }
      if (!(proof instanceof Promise)) return admit(request, proof, now)
      return proof.then((later) => admit(request, later, now), (error: unknown) => refuse(error, now))
    }

    function count (request: FastifyRequest, tenant: string, verdict: 'count' | 'refused'): void {
      usage.add({ tenant, verdict, method: request.method, route: request.routeOptions.url, now: clock() })
    }

    return {
      credentials: [...options.tenantNames, ...options.tokenNames].map((header) => ({ header })),
      proves: ['tenant'],
      hideCredentials: options.hideCredentials,
      notes: ['plaintext token in a header', ...deprecation?.notes ?? ['no deprecation date']],
      challenges: {
        absent: challenge('LegacyHeaders', { realm }),
        rejected: challenge('LegacyHeaders', { realm, error: 'invalid_credentials' })
      },
      missing: () => refusal('ERR_LEGACY_HEADERS_CREDENTIALS_MISSING'),
      isPresented,
      judge,
      committed: (request, { identity }) => count(request, identity.tenant, 'count'),
      ...(deprecation !== undefined && {
        replyHeaders (request, judgement) {
          const tenant = turnedAway.get(request)
          if (tenant !== undefined && turnedAway.delete(request)) count(request, tenant, 'refused')
          return deprecation.headersFor(judgement?.identity.tenant)
        }
      }),
      extras: { usage: usage.report }
    }
  }
})
