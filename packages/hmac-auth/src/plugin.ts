/** The Fastify side of hmac-auth: reads the request, asks the core, and says what of the body remains to be judged. */

import {
  assertForwardingIsSafe, challenge, guardPluginOf, hasBody, isAuthError, isThenable, type Claim, type Guard, type Judgement, type Obligation
} from '@sallyport/guard'
import type { FastifyPluginAsync, FastifyRequest } from 'fastify'
import { watchContentDigest, type ContentDigest } from './content-digest.js'
import { OWNER, refusal } from './errors.js'
import { explainMessage, formatDebug, type SignatureExplanation } from './explain.js'
import type { HmacAuthIdentity, TrustedKey } from './keys.js'
import { optionNames, resolveOptions, type AuthoritySource, type HmacAuthOptions, type ResolvedOptions } from './options.js'
import type { SignedMessage } from './profile.js'
import { endOf, judgeTime } from './timestamps.js'
import { createSignatureVerifier, startBodyMac, usedUpBy, type PendingSignature, type ProvedSignature, type Verification } from './verify-signature.js'

/** The guard as it hangs on the instance. */
export type HmacAuthGuard = Guard<HmacAuthIdentity> & {
  /**
   * What the signature of a request says, and the string to sign as this server sees it: to be compared with what the
   * client's signer explains. For hooks that run before the guard, which takes the signature out of the request.
   */
  readonly explainSignature: (request: FastifyRequest) => SignatureExplanation
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Judges signed requests; see `@sallyport/hmac-auth`. */
    hmacAuth: HmacAuthGuard
  }
}

type Proof = Judgement<HmacAuthIdentity>

/**
 * Registers the guard `app.hmacAuth` (or under the name `as`) for requests signed with a shared secret.
 * It protects nothing by itself: routes name it in their policy.
 * Throws `OptionsError` at registration for options that could not be meant.
 */
export const hmacAuth: FastifyPluginAsync<HmacAuthOptions> = guardPluginOf<HmacAuthOptions, HmacAuthIdentity>({
  owner: OWNER,
  name: 'hmacAuth',
  optionNames,
  define ({ app, name, reader, realm, clock }) {
    const options = resolveOptions(reader)
    const { profile, provesTenant, window, store, debug } = options
    if ('source' in options.authority && options.authority.source === 'request') {
      assertForwardingIsSafe(app, { owner: OWNER, option: 'authority', otherwise: 'give the authority as text, or { source: \'socket\' }' })
    }
    const verifySignature = createSignatureVerifier(options)
    const messageOf = createMessageReader(options)
    const explain = (request: FastifyRequest): SignatureExplanation => explainMessage(profile, messageOf(request), hasBody(request))
    const explained = new WeakMap<FastifyRequest, string>()

    /** The claims that each key's signatures may hold. */
    const quotas = new WeakMap<TrustedKey, Claim['quota']>()

    function quotaOf (key: TrustedKey): Claim['quota'] {
      let quota = quotas.get(key)
      if (quota === undefined) quotas.set(key, quota = Object.freeze({ group: `${name}:${key.id}`, maxLiveClaims: options.maxLiveClaimsPerKey }))
      return quota
    }

    /** What a signature uses up, so that it counts once. Only of a signature that has been proved. */
    function claimOf ({ presented, key }: ProvedSignature): Claim {
      if (store.createdAt !== undefined && presented.datedAtMs < store.createdAt) {
        throw refusal('ERR_HMAC_AUTH_STATE_UNAVAILABLE', { reason: 'dated-before-store', retryAfterSeconds: 1 })
      }
      return {
        store,
        key: `${name}:${usedUpBy(presented)}`,
        expiresAtMs: endOf(presented, window),
        storeTimeoutMs: options.storeTimeoutMs,
        repeated: replayed,
        quota: quotaOf(key)
      }
    }

    function proved (proof: ProvedSignature, request: FastifyRequest): Proof {
      const { presented: { digest }, key: { identity, principal, label } } = proof
      const claims = [claimOf(proof)]
      if (digest === undefined) return { identity, principal, claims, matched: label }
      if (hasBody(request)) return { identity, principal, claims, matched: label, obligations: [digestOf(digest)] }
      watchContentDigest(digest).verify()
      return { identity, principal, claims, matched: label }
    }

    /** The MAC goes over the body, so nothing is proved before that has been read; time passes until then. */
    function pending (signature: PendingSignature, request: FastifyRequest): Proof {
      const { presented, candidates } = signature
      const { identity, principal, id } = candidates[0]!
      // By the time that the body has come, the signature is out of the request.
      const explanation = debug ? explain(request) : undefined
      const signedBody: Obligation = {
        description: 'signature over the body',
        watch () {
          const mac = startBodyMac(signature)
          return {
            update: mac.update,
            verify () {
              try {
                const now = clock()
                const key = mac.prove(now)
                judgeTime(presented, now, window)
                return [claimOf({ presented, key })]
              } catch (error) {
                throw remembered(error, request, explanation)
              }
            }
          }
        }
      }
      return { identity, principal, provisional: true, obligations: [signedBody], matched: id }
    }

    function judgementOf (verification: Verification, request: FastifyRequest): Proof {
      return 'key' in verification ? proved(verification, request) : pending(verification, request)
    }

    function remembered (error: unknown, request: FastifyRequest, explanation?: SignatureExplanation): unknown {
      if (debug && isAuthError(error)) explained.set(request, formatDebug(error, explanation ?? explain(request)))
      return error
    }

    function judge (request: FastifyRequest): Proof | Promise<Proof> {
      const verification = verifySignature({ message: messageOf(request), hasBody: hasBody(request), now: clock() })
      return isThenable(verification) ? judgeLater(verification, request) : judgementOf(verification, request)
    }

    async function judgeLater (verification: Promise<Verification>, request: FastifyRequest): Promise<Proof> {
      return judgementOf(await verification, request)
    }

    function judgeAloud (request: FastifyRequest): Proof | Promise<Proof> {
      try {
        const proof = judge(request)
        return proof instanceof Promise ? proof.catch((error: unknown) => { throw remembered(error, request) }) : proof
      } catch (error) {
        throw remembered(error, request)
      }
    }

    return {
      credentials: profile.credentials,
      proves: provesTenant ? ['tenant'] : [],
      judgesBody: true,
      provisional: profile.signsBody,
      hideCredentials: options.hideCredentials,
      notes: notesOf(options),
      challenges: {
        absent: challenge(profile.scheme, { realm, ...profile.challenge }),
        rejected: challenge(profile.scheme, { realm, ...profile.challenge, error: 'invalid_signature' })
      },
      missing: () => refusal('ERR_HMAC_AUTH_SIGNATURE_MISSING'),
      isPresented: (request) => profile.isPresented(request.raw.rawHeaders),
      judge: debug ? judgeAloud : judge,
      ...(debug && {
        replyHeaders (request) {
          const text = explained.get(request)
          return text === undefined ? undefined : { 'hmac-auth-debug': text }
        }
      }),
      extras: { explainSignature: explain }
    }
  }
})

function digestOf (digest: ContentDigest): Obligation {
  return { description: 'content digest', watch: () => watchContentDigest(digest) }
}

function replayed () {
  return refusal('ERR_HMAC_AUTH_SIGNATURE_REPLAYED', { reason: 'replayed' })
}

/** Reads the message as the client sent it: before a proxy took a prefix off, and before Fastify rewrote the URL. */
function createMessageReader ({ authority, pathPrefix }: ResolvedOptions): (request: FastifyRequest) => SignedMessage {
  const authorityOf = createAuthorityReader(authority)
  return (request) => ({
    method: request.method,
    target: pathPrefix + request.originalUrl,
    scheme: request.protocol,
    authority: authorityOf(request),
    fieldLines: request.raw.rawHeaders,
    httpVersion: request.raw.httpVersion
  })
}

function createAuthorityReader (authority: AuthoritySource): (request: FastifyRequest) => string {
  if ('fixed' in authority) return () => authority.fixed
  if (authority.source === 'request') return ({ host }) => host
  return ({ raw: { headers } }) => headers.host ?? (headers[':authority'] as string | undefined) ?? ''
}

function notesOf ({ profile, shortSecrets, debug }: ResolvedOptions): readonly string[] {
  return [
    profile.name,
    ...profile.accepts,
    ...profile.notes,
    ...(shortSecrets === undefined ? [] : [`secrets of ${shortSecrets.minimumBytes} bytes allowed: ${shortSecrets.reason}`]),
    ...(debug ? ['debug: refusals tell the string to sign'] : [])
  ]
}
