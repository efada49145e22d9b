/** Claim stores: a key is taken exactly once within a time. The one primitive behind nonces, one-shot tokens and webhook ids. */

export type ClaimResult = { readonly claimed: true } | { readonly claimed: false, readonly value: string }

export interface ClaimStore {
  /**
   * Takes `key` for `ttlMs` milliseconds (a whole number, 1 or more). Of all callers within that time exactly one gets
   * `claimed: true`; the others get the value that the winner stored.
   * Rejects (with `StoreUnavailable` or a client's own error) when it can't tell: callers must then refuse.
   * @param value what the winner leaves for the others, and what `release` recognises it by. Default: ''
   */
  claim (key: string, ttlMs: number, value?: string): Promise<ClaimResult>
  /**
   * As `claim`, in a store that can tell at once; throws what `claim` rejects with. Where it is there, guards call it in the
   * place of `claim`, and wait for nothing; whoever puts another `claim` into such a store takes this one out.
   */
  claimNow? (key: string, ttlMs: number, value?: string): ClaimResult
  /** Gives the key back, only if it is still held with the value `owner`; otherwise does nothing. */
  release (key: string, owner: string): Promise<void>
  /**
   * Milliseconds since the epoch; set by stores that forget everything in a restart. What is dated before may have been
   * used already, so guards refuse it.
   */
  readonly createdAt?: number
}

/** A claim store that keeps state too: refresh families, revocations, callback deliveries. */
export interface StateStore extends ClaimStore {
  /** The live value under the key, or `undefined`. Claimed keys are seen too. */
  get (key: string): Promise<string | undefined>
  /** Stores or replaces the value for `ttlMs` milliseconds (a whole number, 1 or more). */
  set (key: string, value: string, ttlMs: number): Promise<void>
  delete (key: string): Promise<void>
}

/** A store that can't take the key now: it is full of live keys, or out of reach. Answered with 503. */
export class StoreUnavailable extends Error {
  override readonly name = 'StoreUnavailable'
  readonly code = 'ERR_GUARD_STORE_UNAVAILABLE'
}

/** Throws a `TypeError` unless `ttlMs` is a whole number, 1 or more. */
export function assertTtl (ttlMs: number): void {
  if (!Number.isSafeInteger(ttlMs) || ttlMs < 1) throw new TypeError('ttlMs must be a whole number of milliseconds, 1 or more')
}
