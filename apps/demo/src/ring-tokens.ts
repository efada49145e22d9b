/** A token service on a key ring that changes while the server runs, and what `bearerJwt` has to know to verify its tokens. */

import {
  createTokenService, type BearerJwtOptions, type DecryptionKey, type EncryptionOptions, type IssuedToken, type IssueRequest, type JwtKey, type RevocableToken,
  type TokenPair, type TokenRecord, type TokenService, type TokenServiceOptions
} from '@sallyport/bearer-jwt'
import { isOptionsError } from '@sallyport/guard'
import { keyInUse, type KeyRing, type RingKey } from './key-rings.js'
import { problem } from './refusals.js'

/** Tokens live this long at most: what the token service takes. */
export const MAX_TOKEN_SECONDS = 30 * 86_400
/** As many live tokens as `list` shows for sure: whoever ends all that are listed has ended all. */
export const MAX_LIVE_TOKENS = 400
/** In other processes a revocation counts after this time at the latest. */
const MAX_STALENESS_SECONDS = 1
/** The embedded database shares this process's time with everything else. */
const STORE_TIMEOUT_MS = 1_000

export interface RingTokens {
  /** For `bearerJwt`. */
  readonly verification: Pick<BearerJwtOptions, 'issuer' | 'audience' | 'typ' | 'algorithms' | 'keys' | 'keyCacheSeconds' | 'encryption' | 'revocations'>
  readonly issue: (request: IssueRequest) => Promise<IssuedToken>
  readonly issuePair: (request: Omit<IssueRequest, 'use'>) => Promise<TokenPair>
  readonly refresh: (token: string) => Promise<TokenPair>
  readonly revoke: (id: string) => Promise<void>
  readonly isRevoked: (token: RevocableToken) => Promise<boolean>
  readonly list: (subject: string) => Promise<readonly TokenRecord[]>
  readonly close: () => Promise<void>
}

export interface RingTokensOptions extends Pick<TokenServiceOptions, 'issuer' | 'audience' | 'store' | 'tenantClaim' | 'refreshLifetimeSeconds' | 'retrySeconds' | 'isRefused'> {
  /** The ring as it is now; the same object until it changes. Whether it encrypts stays as it is at the start. */
  readonly ring: () => KeyRing
  readonly clock?: (() => number) | undefined
}

/** Nothing is asked of the store before it is needed: while it is away tokens are answered 503, and the server runs. */
export function createRingTokens ({ ring, clock, ...options }: RingTokensOptions): RingTokens {
  const decryption = ring().encryption.length === 0 ? undefined : decryptionBy(ring)
  let latest: { readonly ring: KeyRing, readonly service: Promise<TokenService> } | undefined

  async function service (): Promise<TokenService> {
    const now = ring()
    if (latest?.ring === now) return latest.service
    const [old, next] = [latest, { ring: now, service: start(now) }]
    latest = next
    next.service.catch(() => { if (latest === next) latest = undefined })
    await stop(old)
    return next.service
  }

  async function start ({ signing, encryption }: KeyRing): Promise<TokenService> {
    const retiredKeys = signing.filter(({ notAfter }) => notAfter !== undefined)
    return createTokenService({
      ...options,
      signing: idAndKey(keyInUse(signing)),
      ...(retiredKeys.length > 0 && { retiredKeys }),
      ...(decryption !== undefined && {
        encryption: { ...idAndKey(keyInUse(encryption)), algorithm: 'dir', contentEncryption: 'A256GCM' },
        decryption
      }),
      accessLifetimeSeconds: MAX_TOKEN_SECONDS,
      maxStalenessSeconds: MAX_STALENESS_SECONDS,
      storeTimeoutMs: STORE_TIMEOUT_MS,
      ...(clock !== undefined && { clock })
    }).catch((error: unknown) => {
      throw isOptionsError(error) ? error : problem(503, 'ERR_DEMO_STATE_UNAVAILABLE', `What was issued and revoked can't be read: ${error instanceof Error ? error.message : String(error)}`)
    })
  }

  async function isRevoked (token: RevocableToken): Promise<boolean> {
    return (await service()).verification.revocations.isRevoked(token)
  }

  return Object.freeze({
    verification: {
      issuer: options.issuer,
      audience: options.audience,
      typ: 'at+jwt',
      algorithms: ['HS256' as const],
      keys: ({ keyId }: { readonly keyId: string | undefined }): readonly JwtKey[] => ring().signing.filter(({ id }) => id === keyId),
      // A rotation counts from the next request on.
      keyCacheSeconds: 0,
      ...(decryption !== undefined && { encryption: decryption }),
      revocations: {
        isRevoked,
        noteUse: (id: string, expiresAtMs: number) => {
          service().then(({ verification }) => verification.revocations.noteUse?.(id, expiresAtMs)).catch(() => { /* last use is for people */ })
        }
      }
    },
    issue: async (request: IssueRequest) => (await service()).issue(request),
    issuePair: async (request: Omit<IssueRequest, 'use'>) => (await service()).issuePair(request),
    refresh: async (token: string) => (await service()).refresh(token),
    revoke: async (id: string) => (await service()).revoke({ id }),
    isRevoked,
    list: async (subject: string) => (await service()).list(subject),
    close: async () => stop(latest)
  })
}

async function stop (running: { readonly service: Promise<TokenService> } | undefined): Promise<void> {
  await running?.service.then((service) => { service.close() }, () => { /* it never ran */ })
}

/** The list of a ring is derived once, so that it is the same array until the ring changes. */
function decryptionBy (ring: () => KeyRing): EncryptionOptions {
  const derived = new WeakMap<KeyRing, readonly DecryptionKey[]>()
  const keysOf = (now: KeyRing): readonly DecryptionKey[] => {
    const keys = derived.get(now) ?? now.encryption.map((key) => ({ ...key, algorithm: 'dir' as const }))
    derived.set(now, keys)
    return keys
  }
  return { mode: 'required', keys: () => keysOf(ring()), keyManagement: ['dir'], contentEncryption: ['A256GCM'] }
}

function idAndKey ({ id, key }: RingKey): Pick<RingKey, 'id' | 'key'> {
  return { id, key }
}
