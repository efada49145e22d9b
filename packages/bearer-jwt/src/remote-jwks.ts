/** Keys from a JWK Set on the network (RFC 7517 section 5): cached, fetched by one request at a time, and bounded in every way. */

import { channel } from 'node:diagnostics_channel'
import { inTime, OptionReader, OptionsError } from '@sallyport/guard'
import { resolveKey, type Algorithm, type TrustedKey } from './keys.js'

const OWNER = '@sallyport/bearer-jwt'
const MAX_BYTES = 524_288
const MAX_KEYS = 100
const optionNames = ['cacheSeconds', 'cooldownSeconds', 'fetchTimeoutMs', 'staleIfErrorSeconds', 'fetch']

/** Published on `node:diagnostics_channel` when keys are used although they could not be renewed. */
export const keySourceChannel = 'sallyport:key-source'

const events = channel(keySourceChannel)

export interface RemoteJwksOptions {
  /** How long fetched keys are used before they are fetched again. Seconds. Default: 600. */
  readonly cacheSeconds?: number
  /** The least time between two fetches, whatever tokens ask for. Seconds; at most `cacheSeconds`. Default: 30, or `cacheSeconds` where that is less. */
  readonly cooldownSeconds?: number
  /** A fetch that takes longer has failed. Milliseconds. Default: 1,500. */
  readonly fetchTimeoutMs?: number
  /** How long keys are used beyond `cacheSeconds` while fetching fails; after that, tokens are 503. Seconds; 0: not at all. Default: 3,600. */
  readonly staleIfErrorSeconds?: number
  /** For a proxy, or a certificate authority of one's own. Redirects are refused whatever it does with them. Default: the global `fetch`. */
  readonly fetch?: typeof fetch
}

/** A JWK Set by its address; made by `remoteJwks`, given as `keys`. */
export interface RemoteJwks {
  readonly url: string
  readonly options: Required<RemoteJwksOptions>
}

const made = new WeakSet<object>()

/**
 * Names a JWK Set on the network. Nothing is fetched before the first token.
 * Throws `OptionsError` for anything but an `https:` address without user and fragment, and for wrong options.
 */
export function remoteJwks (url: string | URL, options: RemoteJwksOptions = {}): RemoteJwks {
  const reader = new OptionReader(OWNER, options, optionNames, 'remoteJwks().')
  const address = URL.canParse(String(url)) ? new URL(url) : undefined
  if (address?.protocol !== 'https:' || address.username !== '' || address.password !== '' || address.hash !== '') {
    throw new OptionsError(OWNER, 'remoteJwks().url', 'must be an https: address without user and fragment')
  }
  const cacheSeconds = reader.integer('cacheSeconds', { min: 1 }, 600)
  const source = Object.freeze({
    url: address.href,
    options: Object.freeze({
      cacheSeconds,
      cooldownSeconds: reader.integer('cooldownSeconds', { min: 1, max: cacheSeconds }, Math.min(30, cacheSeconds)),
      fetchTimeoutMs: reader.integer('fetchTimeoutMs', { min: 1, max: 60_000 }, 1_500),
      staleIfErrorSeconds: reader.integer('staleIfErrorSeconds', { min: 0 }, 3_600),
      fetch: reader.fn<typeof fetch>('fetch', (...parts) => fetch(...parts))
    })
  })
  made.add(source)
  return source
}

export function isRemoteJwks (value: unknown): value is RemoteJwks {
  return typeof value === 'object' && value !== null && made.has(value)
}

/** A request takes the time when it begins, so what it finds may be a little younger than itself. */
const CLOCK_SLACK_SECONDS = 60

/** In seconds. What comes from further ahead is of no known age: the clock was set back since. */
export function ageOf ({ sinceMs, nowMs }: { sinceMs: number, nowMs: number }): number {
  const age = (nowMs - sinceMs) / 1000
  return age < -CLOCK_SLACK_SECONDS ? Infinity : age
}

/** The keys of one remote set, as they are now. */
export class RemoteKeys {
  readonly #source: RemoteJwks
  readonly #algorithms: readonly Algorithm[]
  #keys: readonly TrustedKey[] | undefined
  #fetchedAt = -Infinity
  #triedAt = -Infinity
  #underWay: Promise<void> | undefined
  #failure: unknown

  constructor (source: RemoteJwks, algorithms: readonly Algorithm[]) {
    this.#source = source
    this.#algorithms = algorithms
  }

  /**
   * Keys for a token; at once where they are at hand. An unknown `kid` asks for a new fetch, at most once per cooldown.
   * Rejects with whatever kept the keys from being fetched, if there are none that may still be used.
   */
  find (keyId: string | undefined, nowMs: number): readonly TrustedKey[] | Promise<readonly TrustedKey[]> {
    const { cacheSeconds, cooldownSeconds } = this.#source.options
    const isFresh = ageOf({ sinceMs: this.#fetchedAt, nowMs }) < cacheSeconds
    const isKnown = keyId === undefined || this.#keys?.some(({ id }) => id === keyId) === true
    if (isFresh && isKnown) return this.#keys!
    if (this.#underWay === undefined && ageOf({ sinceMs: this.#triedAt, nowMs }) < cooldownSeconds) return this.#usable(nowMs)
    return this.#renew(nowMs).then(() => this.#usable(nowMs))
  }

  #renew (nowMs: number): Promise<void> {
    this.#underWay ??= this.#fetchKeys(nowMs).finally(() => { this.#underWay = undefined })
    return this.#underWay
  }

  async #fetchKeys (nowMs: number): Promise<void> {
    this.#triedAt = nowMs
    try {
      // Whatever `fetch` does with the signal: one that never answers must not be waited for by all who come after.
      this.#keys = this.#read(await inTime(fetchSet(this.#source), this.#source.options.fetchTimeoutMs))
      this.#fetchedAt = nowMs
      this.#failure = undefined
    } catch (cause) {
      this.#failure = cause
    }
  }

  #usable (nowMs: number): readonly TrustedKey[] {
    const { cacheSeconds, staleIfErrorSeconds } = this.#source.options
    const ageSeconds = ageOf({ sinceMs: this.#fetchedAt, nowMs })
    if (this.#keys === undefined || ageSeconds >= cacheSeconds + staleIfErrorSeconds) throw this.#failure instanceof Error ? this.#failure : new Error('no keys have been fetched')
    if (ageSeconds >= cacheSeconds && events.hasSubscribers) events.publish(Object.freeze({ type: 'stale-keys', url: this.#source.url, ageSeconds, cause: this.#failure }))
    return this.#keys
  }

  /** Keys that can't be used here (another algorithm, too weak, for encryption) are left out; the others count. */
  #read (set: unknown): readonly TrustedKey[] {
    const list = (set as { keys?: unknown } | null)?.keys
    if (!Array.isArray(list)) throw new Error('the answer is no JWK Set')
    return Object.freeze(list.slice(0, MAX_KEYS).flatMap((jwk: unknown) => this.#readKey(jwk) ?? []))
  }

  /** A key that names no algorithm serves the first of the pinned ones that fits it. */
  #readKey (jwk: unknown): TrustedKey | undefined {
    // A secret has no business on the network, whoever published it.
    if (typeof jwk !== 'object' || jwk === null || (jwk as { kty?: unknown }).kty === 'oct') return undefined
    const rules = { owner: OWNER, path: 'keys[].', shortSecrets: undefined, algorithms: this.#algorithms }
    const choices = (jwk as { alg?: unknown }).alg === undefined ? this.#algorithms.map((algorithm) => ({ algorithm })) : [{}]
    for (const choice of choices) {
      try {
        return resolveKey({ key: jwk, ...choice }, rules)
      } catch { /* not a key that can be used so */ }
    }
    return undefined
  }
}

async function fetchSet ({ url, options }: RemoteJwks): Promise<unknown> {
  const response = await options.fetch(url, {
    redirect: 'error', signal: AbortSignal.timeout(options.fetchTimeoutMs), headers: { accept: 'application/jwk-set+json, application/json' }
  })
  if (response.status !== 200 || response.redirected) {
    await response.body?.cancel()
    throw new Error(`the key set answered ${response.status}`)
  }
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body as AsyncIterable<Uint8Array>) {
    size += chunk.length
    if (size > MAX_BYTES) throw new Error('the key set is too large')
    chunks.push(chunk)
  }
  return JSON.parse(Buffer.concat(chunks).toString())
}
