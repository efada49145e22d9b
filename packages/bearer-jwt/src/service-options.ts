/** The options of the token service and what its callers ask for: what it means, the checks and the defaults. */

import { createPublicKey, createSecretKey, KeyObject } from 'node:crypto'
import { inTime, OptionReader, type StateStore } from '@sallyport/guard'
import {
  contentEncryptionAlgorithms, encryptionNames, keyManagementAlgorithms, resolveEncryption, type ContentEncryptionAlgorithm, type EncryptionOptions,
  type KeyManagementAlgorithm, type SealingKey
} from './encryption.js'
import { algorithms, resolveKey, type Algorithm, type JwtKey } from './keys.js'
import type { RevocableToken } from './revocations.js'

export const SERVICE = 'createTokenService'

/** The key that signs new tokens. */
export interface SigningKey {
  /** A private key, or a shared secret (bytes or `KeyObject`). */
  readonly key: KeyObject | Uint8Array
  /** Default: `HS256` for secrets; required for private keys. */
  readonly algorithm?: Algorithm
  /** Sent as `kid`. Required, so that keys can be rotated. */
  readonly id: string
}

/** The key that new tokens are encrypted with, after they were signed. */
export interface EncryptionKey {
  /** The public key of those who open the tokens, or 32 shared bytes. */
  readonly key: KeyObject | Uint8Array
  readonly algorithm: KeyManagementAlgorithm
  readonly contentEncryption: ContentEncryptionAlgorithm
  /** Sent as `kid`. */
  readonly id: string
}

export interface TokenServiceOptions {
  /** The `iss` of tokens. */
  readonly issuer: string
  /** The `aud` of access and callback tokens. */
  readonly audience: string
  readonly signing: SigningKey
  /** Earlier signing keys whose tokens are still good: public keys or secrets, with their ids and ends. Default: none. */
  readonly retiredKeys?: readonly JwtKey[]
  /** Default: tokens are signed only. */
  readonly encryption?: EncryptionKey
  /** How encrypted tokens are opened again, for refresh tokens and for `verification`; required with `encryption`. */
  readonly decryption?: EncryptionOptions
  /**
   * Keeps refresh claims, revocations and metadata; never a token. `memoryStore` forgets them in a restart, so tokens that were
   * issued before it was made are then refused.
   */
  readonly store: StateStore
  /**
   * The claim that names the tenant. Given, every token names one, `verification` has `bearerJwt` prove it, and
   * `revoke({ tenant })` can be used. Default: `tenant`, for those tokens that are issued with one.
   */
  readonly tenantClaim?: string
  /** Seconds, at most 30 days. Default: 900. */
  readonly accessLifetimeSeconds?: number
  /** Seconds, at most 400 days. Default: 2,592,000 (30 days). */
  readonly refreshLifetimeSeconds?: number
  /** A refresh token that is used again within this time gets the same successor. Seconds, 0 to 60. Default: 10. */
  readonly retrySeconds?: number
  /**
   * Further reasons to refuse a token, beside what was revoked: an account that is closed elsewhere. Asked for access and refresh
   * tokens alike, once their signature is right. Throwing or rejecting is 503. Default: none.
   */
  readonly isRefused?: (token: RevocableToken) => boolean | Promise<boolean>
  /** How old what is known of revocations may be; older is 503. Seconds, 1 to 60. Default: 1. */
  readonly maxStalenessSeconds?: number
  /** A store slower than this has failed. Milliseconds, at most 1,500. Default: 250. */
  readonly storeTimeoutMs?: number
  /** Milliseconds since the epoch; for tests. Default: `Date.now`. */
  readonly clock?: () => number
}

const optionNames = [
  'issuer', 'audience', 'signing', 'retiredKeys', 'encryption', 'decryption', 'store', 'tenantClaim', 'accessLifetimeSeconds', 'refreshLifetimeSeconds',
  'retrySeconds', 'isRefused', 'maxStalenessSeconds', 'storeTimeoutMs', 'clock'
]
const DAY = 86_400
export const MAX_ACCESS_SECONDS = 30 * DAY
/** Claims that the service alone writes. */
export const ownClaims: readonly string[] = ['iss', 'sub', 'aud', 'jti', 'iat', 'nbf', 'exp', 'fam', 'scope', 'scp', 'ttl', 'seed', '__proto__']

export interface ResolvedServiceOptions {
  readonly issuer: string
  readonly audience: string
  readonly signing: { readonly key: KeyObject, readonly algorithm: Algorithm, readonly id: string }
  readonly verificationKeys: readonly JwtKey[]
  readonly encryption: SealingKey | undefined
  readonly decryption: EncryptionOptions | undefined
  readonly store: StateStore
  readonly tenantClaim: string
  /** Every token names its tenant. */
  readonly hasTenants: boolean
  readonly accessLifetimeSeconds: number
  readonly refreshLifetimeSeconds: number
  readonly retrySeconds: number
  readonly isRefused: (token: RevocableToken) => boolean | Promise<boolean>
  readonly maxStalenessSeconds: number
  readonly storeTimeoutMs: number
  readonly clock: () => number
}

/** Checks everything once. Throws `OptionsError`. */
export function resolveServiceOptions (options: TokenServiceOptions): ResolvedServiceOptions {
  const reader = new OptionReader(SERVICE, options, optionNames)
  const signing = readSigning(reader)
  const issuer = reader.requiredText('issuer')
  const tenantClaim = reader.text('tenantClaim', 'tenant')
  if (ownClaims.includes(tenantClaim)) throw reader.error('tenantClaim', 'is a claim with a meaning of its own')
  const storeTimeoutMs = reader.integer('storeTimeoutMs', { min: 1, max: 1_500 }, 250)
  return Object.freeze({
    issuer,
    audience: reader.requiredText('audience'),
    signing,
    verificationKeys: readVerificationKeys(reader, signing),
    encryption: readEncryption(reader),
    decryption: readDecryption(reader),
    store: ownPartOf(readStateStore(reader), issuer, storeTimeoutMs),
    tenantClaim,
    hasTenants: reader.has('tenantClaim'),
    accessLifetimeSeconds: reader.integer('accessLifetimeSeconds', { min: 1, max: MAX_ACCESS_SECONDS }, 900),
    refreshLifetimeSeconds: reader.integer('refreshLifetimeSeconds', { min: 1, max: 400 * DAY }, 30 * DAY),
    retrySeconds: reader.integer('retrySeconds', { min: 0, max: 60 }, 10),
    isRefused: reader.fn('isRefused', () => false),
    maxStalenessSeconds: reader.integer('maxStalenessSeconds', { min: 1, max: 60 }, 1),
    storeTimeoutMs,
    clock: reader.fn('clock', Date.now)
  })
}

function readVerificationKeys (reader: OptionReader, signing: ResolvedServiceOptions['signing']): readonly JwtKey[] {
  const { key, algorithm, id } = signing
  const own: JwtKey = { key: key.type === 'secret' ? key : createPublicKey(key), algorithm, id }
  const keys = [own, ...(reader.list('retiredKeys') ?? []) as readonly JwtKey[]]
  const resolved = keys.map((each, i) => resolveKey(each, { owner: SERVICE, path: i === 0 ? 'signing.' : `retiredKeys[${i - 1}].`, shortSecrets: undefined, algorithms: undefined }))
  const names = resolved.filter((each) => each.id !== undefined).map((each) => `${each.algorithm} ${each.id}`)
  if (new Set(names).size !== names.length) throw reader.error('retiredKeys', 'must not hold the id of the signing key, nor one id twice')
  return Object.freeze(keys)
}

function readSigning (outer: OptionReader): ResolvedServiceOptions['signing'] {
  if (!outer.has('signing')) throw outer.error('signing', 'is required')
  const reader = outer.nested('signing', ['key', 'algorithm', 'id'])
  const key = readKeyObject(reader)
  if (key.type === 'public') throw reader.error('key', 'must be a private key or a secret: a public key can\'t sign')
  const algorithm = reader.oneOf('algorithm', algorithms) ?? (key.type === 'secret' ? 'HS256' : undefined)
  if (algorithm === undefined) throw reader.error('algorithm', 'is required for a private key')
  return { key, algorithm, id: reader.requiredText('id') }
}

function readEncryption (outer: OptionReader): ResolvedServiceOptions['encryption'] {
  if (!outer.has('encryption')) return undefined
  const reader = outer.nested('encryption', ['key', 'algorithm', 'contentEncryption', 'id'])
  const key = readKeyObject(reader)
  if (key.type === 'private') throw reader.error('key', 'must be the public key, or a shared secret')
  const algorithm = reader.oneOf('algorithm', keyManagementAlgorithms)
  const contentEncryption = reader.oneOf('contentEncryption', contentEncryptionAlgorithms)
  if (algorithm === undefined) throw reader.error('algorithm', 'is required')
  if (contentEncryption === undefined) throw reader.error('contentEncryption', 'is required')
  const isShared = algorithm === 'dir' || algorithm === 'A256KW'
  if (isShared !== (key.type === 'secret')) throw reader.error('key', `can't serve ${algorithm}`)
  if (isShared && key.symmetricKeySize !== 32) throw reader.error('key', `must have 32 bytes for ${algorithm}`)
  return { key, algorithm, contentEncryption, id: reader.requiredText('id') }
}

/** Checked as `bearerJwt` checks it, and handed on as it is. */
function readDecryption (reader: OptionReader): EncryptionOptions | undefined {
  if (!reader.has('decryption')) {
    if (reader.has('encryption')) throw reader.error('decryption', 'is required with "encryption": what is sealed must be opened again')
    return undefined
  }
  const { mode } = resolveEncryption(reader.nested('decryption', encryptionNames))
  if (mode === 'required' && !reader.has('encryption')) throw reader.error('decryption', 'has the mode "required", and nothing is sealed without "encryption"')
  return reader.raw('decryption') as EncryptionOptions
}

function readKeyObject (reader: OptionReader): KeyObject {
  const given = reader.raw('key')
  if (given instanceof KeyObject) return given
  if (given instanceof Uint8Array && given.length > 0) return createSecretKey(given)
  throw reader.error('key', 'must be a KeyObject or secret bytes')
}

function readStateStore (reader: OptionReader): StateStore {
  const store = reader.raw('store') as Partial<StateStore> | null | undefined
  const isStore = (['claim', 'release', 'get', 'set', 'delete'] as const).every((method) => typeof store?.[method] === 'function')
  if (!isStore) throw reader.error('store', 'must be a state store: memoryStore(), redisStore(client) or your own')
  return store as StateStore
}

/** Each call in time, under names of the issuer's own, so that services which share a store don't share what is in it. */
function ownPartOf (store: StateStore, issuer: string, timeoutMs: number): StateStore {
  const nameOf = (key: string): string => `token service of ${issuer}: ${key}`
  return {
    claim: async (key, ttlMs, value) => inTime(store.claim(nameOf(key), ttlMs, value), timeoutMs),
    release: async (key, owner) => inTime(store.release(nameOf(key), owner), timeoutMs),
    get: async (key) => inTime(store.get(nameOf(key)), timeoutMs),
    set: async (key, value, ttlMs) => inTime(store.set(nameOf(key), value, ttlMs), timeoutMs),
    delete: async (key) => inTime(store.delete(nameOf(key)), timeoutMs),
    ...(store.createdAt !== undefined && { createdAt: store.createdAt })
  }
}

export interface IssueRequest {
  /** The `sub`: a text of 1 to 256 characters. */
  readonly subject: string
  /** Required where `tenantClaim` was given. */
  readonly tenant?: string
  /** Without spaces, quotes and backslashes (RFC 6749 section 3.3). Default: none. */
  readonly scopes?: readonly string[]
  /** In words, for `list`: `Boomi Integration`. */
  readonly purpose?: string
  /** Of the access token, at most 30 days. Default: the service's `accessLifetimeSeconds`. */
  readonly lifetimeSeconds?: number
  /** Default: `access`. */
  readonly use?: 'access' | 'callback'
  /** Further claims, as JSON has them; those of the service are refused. */
  readonly claims?: Readonly<Record<string, unknown>>
}

/** What a family's tokens have in common. */
export interface Grant {
  readonly subject: string
  readonly tenant: string | undefined
  readonly scopes: readonly string[]
  readonly claims: Readonly<Record<string, unknown>>
  readonly lifetimeSeconds: number
}

const pairNames = ['subject', 'tenant', 'scopes', 'purpose', 'lifetimeSeconds', 'claims']

/** Checks what is to be issued. Throws a `TypeError` that names the option. */
export function readIssueRequest (request: unknown, method: 'issue' | 'issuePair', options: ResolvedServiceOptions): { grant: Grant, use: 'access' | 'callback', purpose: string | undefined } {
  const reader = new OptionReader(method, request, method === 'issue' ? [...pairNames, 'use'] : pairNames)
  const tenant = shortText(reader, 'tenant')
  if (options.hasTenants && tenant === undefined) throw reader.error('tenant', 'is required where "tenantClaim" was given')
  return {
    grant: {
      subject: shortText(reader, 'subject') ?? reader.requiredText('subject'),
      tenant,
      scopes: readScopes(reader),
      claims: readClaims(reader, options),
      lifetimeSeconds: reader.integer('lifetimeSeconds', { min: 1, max: MAX_ACCESS_SECONDS }, options.accessLifetimeSeconds)
    },
    use: reader.oneOf('use', ['access', 'callback'], 'access'),
    purpose: shortText(reader, 'purpose')
  }
}

function shortText (reader: OptionReader, name: string): string | undefined {
  const text = reader.text(name)
  if (text !== undefined && text.length > 256) throw reader.error(name, 'must not be longer than 256 characters')
  return text
}

function readScopes (reader: OptionReader): readonly string[] {
  const given = reader.raw('scopes') ?? []
  const isScope = (scope: unknown): boolean => typeof scope === 'string' && /^[\x21\x23-\x5b\x5d-\x7e]+$/.test(scope)
  if (!Array.isArray(given) || !given.every(isScope)) throw reader.error('scopes', 'must be a list of scopes, each without spaces, quotes and backslashes (RFC 6749 section 3.3)')
  return Object.freeze([...new Set(given as string[])])
}

/** A copy as JSON has it: what is judged here is what will be signed. */
function readClaims (reader: OptionReader, { tenantClaim }: ResolvedServiceOptions): Readonly<Record<string, unknown>> {
  let claims: unknown
  try {
    claims = JSON.parse(JSON.stringify(reader.raw('claims') ?? {}))
  } catch {
    throw reader.error('claims', 'must be what JSON can hold')
  }
  if (typeof claims !== 'object' || claims === null || Array.isArray(claims)) throw reader.error('claims', 'must be an object')
  const taken = Object.keys(claims).find((name) => name === tenantClaim || ownClaims.includes(name))
  if (taken !== undefined) throw reader.error(`claims.${taken}`, 'belongs to the service')
  return Object.freeze(claims as Record<string, unknown>)
}
