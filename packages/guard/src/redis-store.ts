/** A state store on Redis, for any number of processes. */

import { hash } from 'node:crypto'
import { assertTtl, StoreUnavailable } from './claim-store.js'
import type { ClaimResult, StateStore } from './claim-store.js'
import { OptionReader } from './options.js'

/**
 * What is used of a client: one method that sends one command and resolves with Redis's reply, strings as UTF-8 text and nil
 * as `null`. The clients of ioredis fit as they are, `Redis` and `Cluster`; node-redis fits as
 * `{ call: (...words) => client.sendCommand(words.map(String)) }`.
 */
export interface RedisClient {
  call (command: string, ...args: (string | number)[]): Promise<unknown>
}

export interface RedisStoreOptions {
  /**
   * What every key of this store begins with: printable ASCII, not empty. Default: `sallyport:`.
   * Services with equal prefixes share their keys, so one that isn't the same service needs its own.
   */
  readonly prefix?: string
}

const releaseScript = 'if redis.call(\'get\', KEYS[1]) == ARGV[1] then return redis.call(\'del\', KEYS[1]) end return 0'

/**
 * A `StateStore` for many processes on one Redis, 7.0 or newer (older ones refuse `SET` with `NX` and `GET`, so they claim
 * nothing). Each call is one command and one round trip. Bring your own client; connecting and closing it is yours.
 *
 * A key in Redis is the prefix and a SHA-256 hash, so its length is bounded and what stands in keys, such as tenants and token
 * ids, can't be read there. To find one by hand: `hash('sha256', Buffer.from(key, 'utf16le'), 'base64url')` of `node:crypto`.
 *
 * What Redis must be: a key has to survive for its time to live, so `maxmemory-policy noeviction` (a full Redis then refuses
 * claims, which is answered with 503), and, if a restart must not open what was claimed before it, `appendonly yes`.
 * A failover to a replica that lags behind loses its last claims.
 *
 * Recommended for ioredis: `{ enableOfflineQueue: false, maxRetriesPerRequest: 0, socketTimeout: 1000 }`. Then a claim fails at
 * once while Redis is away, none is sent a second time (Redis would answer it with the claim's own value: taken), and a
 * connection that went silent is closed, with everything that waits on it. The store has no timers: guards stop waiting after
 * `storeTimeoutMs`.
 *
 * Methods reject with the client's own error, with `StoreUnavailable` for a reply that Redis never gives, and with a
 * `TypeError` when `ttlMs` is not a whole number, 1 or more. Only the reply "nil" counts as claimed.
 * @throws {OptionsError} for a client without `call`, an unknown option, or a prefix that isn't printable ASCII
 */
export function redisStore (client: RedisClient, options: RedisStoreOptions = {}): StateStore {
  const reader = new OptionReader('@sallyport/guard', options, ['prefix'])
  if (typeof (client as Partial<RedisClient> | undefined)?.call !== 'function') {
    throw reader.error('client', 'must have the method call(command, ...args), as the clients of ioredis have')
  }
  const prefix = reader.text('prefix', 'sallyport:')
  if (!/^[\x20-\x7e]+$/.test(prefix)) throw reader.error('prefix', 'must be printable ASCII')

  // UTF-16 as it stands: in UTF-8 all lone surrogates would be one key
  const nameOf = (key: string): string => prefix + hash('sha256', Buffer.from(key, 'utf16le'), 'base64url')

  return {
    async claim (key: string, ttlMs: number, value = ''): Promise<ClaimResult> {
      assertTtl(ttlMs)
      const held = textOrNil(await client.call('set', nameOf(key), value, 'PX', ttlMs, 'NX', 'GET'))
      return held === undefined ? { claimed: true } : { claimed: false, value: held }
    },

    async release (key: string, owner: string): Promise<void> {
      await client.call('eval', releaseScript, 1, nameOf(key), owner)
    },

    async get (key: string): Promise<string | undefined> {
      return textOrNil(await client.call('get', nameOf(key)))
    },

    async set (key: string, value: string, ttlMs: number): Promise<void> {
      assertTtl(ttlMs)
      const reply = await client.call('set', nameOf(key), value, 'PX', ttlMs)
      if (reply !== 'OK') throw new StoreUnavailable('Redis did not confirm that it stored the key')
    },

    async delete (key: string): Promise<void> {
      await client.call('del', nameOf(key))
    }
  }
}

/** A client in a transaction answers "QUEUED", a stubbed or closed one `undefined`: neither may be read as "not held". */
function textOrNil (reply: unknown): string | undefined {
  if (reply === null) return undefined
  if (typeof reply === 'string') return reply
  throw new StoreUnavailable('Redis answered with neither text nor nil')
}
