/** The options of hmac-auth: what they mean, their checks and their defaults. */

import type { ClaimStore, CommonOptions, OptionReader } from '@sallyport/guard'
import { createListedKeys, createResolvedKeys, type FindKeys, type KeyResolver } from './key-source.js'
import { resolveKeys, type HmacKey, type KeyRules, type ShortSecrets } from './keys.js'
import { isProfile, type Profile } from './profile.js'
import { rfc9421 } from './rfc9421.js'
import type { TimeWindow } from './timestamps.js'

export interface HmacAuthOptions extends CommonOptions {
  /** How requests are signed: `rfc9421()`, `headers()` or `authorizationHmac()`. Default: `rfc9421()`. */
  readonly profile?: Profile
  /** The shared secrets: a list (not empty), or a resolver that is asked by key id. Required. */
  readonly keys: readonly HmacKey[] | KeyResolver
  /** How long a resolver's answer is used. Seconds, up to a day; 0: it is asked each time. Default: 60. */
  readonly keyCacheSeconds?: number
  /** False where keys belong to no tenant; none may then name one. Default: true, and every key must name its tenant. */
  readonly provesTenant?: boolean
  /** Allows secrets shorter than their hash; shown in the audit with its reason. */
  readonly shortSecrets?: ShortSecrets
  /** Remembers used nonces: `memoryStore()` for one process, `redisStore(client)` for many. Required. */
  readonly store: ClaimStore
  /** A store slower than this is `unavailable` (503). Milliseconds. Default: 250. */
  readonly storeTimeoutMs?: number
  /** Requests of one key id whose nonces are remembered at once, in this process; more is 429. Default: 100,000. */
  readonly maxLiveClaimsPerKey?: number
  /** How old a signature may be. Seconds, up to an hour. Default: 60. */
  readonly windowSeconds?: number
  /** How far a client's clock may differ, in either direction. Seconds, up to a minute. Default: 5. */
  readonly clockToleranceSeconds?: number
  /**
   * What clients know this server as: host and, if it isn't the scheme's own, port. A text counts whatever `Host` says, for
   * use behind a proxy that changes it. `{ source: 'request' }` takes Fastify's `request.host`, which counts
   * `X-Forwarded-Host` of trusted proxies only, so `trustProxy: true` or a number is an `OptionsError`; `{ source: 'socket' }`
   * takes the `Host` header as it came. Default: `{ source: 'request' }`.
   */
  readonly authority?: string | { readonly source: 'request' | 'socket' }
  /** What a proxy has taken off the front of the path: `/partner`. Default: nothing. */
  readonly pathPrefix?: string
  /** Takes the signature out of the request once it is judged. Default: true. */
  readonly hideCredentials?: boolean
  /** Tells a refused client the string to sign and the reason, in the header `hmac-auth-debug`. Refused where NODE_ENV is `production`. Default: false. */
  readonly debug?: boolean
}

export const optionNames = [
  'profile', 'keys', 'keyCacheSeconds', 'provesTenant', 'shortSecrets', 'store', 'storeTimeoutMs', 'maxLiveClaimsPerKey', 'windowSeconds',
  'clockToleranceSeconds', 'authority', 'pathPrefix', 'hideCredentials', 'debug'
] as const

/** Options as the rest of the package uses them: checked, complete, and out of the caller's reach. */
export interface ResolvedOptions {
  readonly profile: Profile
  readonly findKeys: FindKeys
  readonly provesTenant: boolean
  readonly shortSecrets: ShortSecrets | undefined
  readonly store: ClaimStore
  readonly storeTimeoutMs: number
  readonly maxLiveClaimsPerKey: number
  readonly window: TimeWindow
  readonly authority: AuthoritySource
  readonly pathPrefix: string
  readonly hideCredentials: boolean
  readonly debug: boolean
}

export type AuthoritySource = { readonly fixed: string } | { readonly source: 'request' | 'socket' }

/** Checks everything once, at registration. Throws `OptionsError`. */
export function resolveOptions (reader: OptionReader): ResolvedOptions {
  const profile = readProfile(reader)
  const provesTenant = reader.flag('provesTenant', true)
  const shortSecrets = readShortSecrets(reader, profile)
  return Object.freeze({
    profile,
    findKeys: readKeys(reader, { owner: reader.owner, profile, provesTenant, shortSecrets }),
    provesTenant,
    shortSecrets,
    store: readStore(reader),
    storeTimeoutMs: reader.integer('storeTimeoutMs', { min: 1, max: 60_000 }, 250),
    maxLiveClaimsPerKey: reader.integer('maxLiveClaimsPerKey', { min: 1 }, 100_000),
    window: Object.freeze({
      windowMs: reader.integer('windowSeconds', { min: 1, max: 3_600 }, 60) * 1000,
      toleranceMs: reader.integer('clockToleranceSeconds', { min: 0, max: 60 }, 5) * 1000
    }),
    authority: readAuthority(reader),
    pathPrefix: readPathPrefix(reader),
    hideCredentials: reader.flag('hideCredentials', true),
    debug: readDebug(reader)
  })
}

/** A profile, by default that of the standard. */
export function readProfile (reader: OptionReader): Profile {
  const given = reader.raw('profile')
  if (given === undefined) return rfc9421()
  if (!isProfile(given)) throw reader.error('profile', 'must be rfc9421(), headers() or authorizationHmac(), called')
  return given
}

function readShortSecrets (reader: OptionReader, { leastSecretBytes }: Profile): ShortSecrets | undefined {
  if (!reader.has('shortSecrets')) return undefined
  const given = reader.nested('shortSecrets', ['minimumBytes', 'reason'])
  const minimumBytes = given.integer('minimumBytes', { min: leastSecretBytes })
  if (minimumBytes === undefined) throw given.error('minimumBytes', 'is required')
  return Object.freeze({ minimumBytes, reason: given.requiredText('reason') })
}

function readKeys (reader: OptionReader, rules: KeyRules): FindKeys {
  const keyCacheSeconds = reader.integer('keyCacheSeconds', { min: 0, max: 86_400 })
  const given = reader.raw('keys')
  if (typeof given === 'function') return createResolvedKeys(given as KeyResolver, rules, keyCacheSeconds ?? 60)
  const list = reader.list('keys')
  if (list === undefined) throw reader.error('keys', 'is required: a list of keys, or a function that finds them')
  if (keyCacheSeconds !== undefined) throw reader.error('keyCacheSeconds', 'needs a resolver: a list is always at hand')
  return createListedKeys(resolveKeys(list, rules, 'keys'), rules)
}

function readStore (reader: OptionReader): ClaimStore {
  const store = reader.raw('store') as Partial<ClaimStore> | null | undefined
  if (store === undefined) throw reader.error('store', 'is required: memoryStore() for one process, redisStore(client) for many')
  if (store === null || typeof store.claim !== 'function' || typeof store.release !== 'function') {
    throw reader.error('store', 'must be a claim store: memoryStore(), redisStore(client) or your own')
  }
  return store as ClaimStore
}

function readAuthority (reader: OptionReader): AuthoritySource {
  const given = reader.raw('authority')
  if (given === undefined) return { source: 'request' }
  if (typeof given !== 'string') return { source: reader.nested('authority', ['source']).oneOf('source', ['request', 'socket'], 'request') }
  if (!/^(?:[\w.-]+|\[[\da-f:.]+\])(?::\d{1,5})?$/i.test(given)) throw reader.error('authority', 'must be a host and, if it isn\'t the scheme\'s own, a port: "api.example.com:8443"')
  return { fixed: given }
}

function readPathPrefix (reader: OptionReader): string {
  const prefix = reader.text('pathPrefix', '')
  if (prefix !== '' && !/^(?:\/[\w.~!$&'()*+,;=:@%-]+)+$/.test(prefix)) throw reader.error('pathPrefix', 'must be a path that begins with a slash and does not end with one')
  return prefix
}

function readDebug (reader: OptionReader): boolean {
  const debug = reader.flag('debug', false)
  if (debug && process.env['NODE_ENV'] === 'production') throw reader.error('debug', 'must not be set where NODE_ENV is "production": it tells clients why a signature is wrong')
  return debug
}
