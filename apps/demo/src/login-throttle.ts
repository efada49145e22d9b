/** Failed logins, counted by user and by address, in whatever store the processes share. */

import { randomUUID } from 'node:crypto'
import type { StateStore } from '@sallyport/guard'
import { formatAddress, parseAddress } from '@sallyport/ip-allowlist'
import { problem } from './refusals.js'

export interface Attempt {
  readonly user: string
  readonly address: string
}

export interface LoginThrottle {
  /**
   * Takes a place for one attempt, before the password is looked at: so many may fail, whatever is tried at the same time.
   * Resolves with a function that gives the places back, for a login that did not fail; or with the seconds to wait.
   */
  readonly enter: (attempt: Attempt) => Promise<{ readonly leave: () => Promise<void> } | { readonly retryAfterSeconds: number }>
}

/** Failures within the window, after which a user or an address has to wait, whoever comes with whichever password. */
export const MAX_FAILURES = { user: 5, address: 20 } as const
export const WINDOW_SECONDS = 900

interface Place { readonly key: string, readonly owner: string }

/** Each failure holds one of a fixed number of keys until it is forgotten; `claim` gives a key to exactly one attempt. */
export function createLoginThrottle (store: StateStore, clock: () => number): LoginThrottle {
  async function take (group: string, places: number): Promise<Place | { readonly retryAfterSeconds: number }> {
    const expiresAt = clock() + WINDOW_SECONDS * 1000
    const owner = `${expiresAt} ${randomUUID()}`
    let soonest = expiresAt
    for (let n = 0; n < places; n++) {
      const key = `failed login ${n} of ${group}`
      const taken = await store.claim(key, WINDOW_SECONDS * 1000, owner).catch(() => { throw problem(503, 'ERR_COMMERCE_STATE_UNAVAILABLE', 'Logins can not be counted now') })
      if (taken.claimed) return { key, owner }
      soonest = Math.min(soonest, Number(taken.value.split(' ')[0]))
    }
    return { retryAfterSeconds: Math.max(1, Math.ceil((soonest - clock()) / 1000)) }
  }

  /** What can't be given back now is forgotten with the window. */
  async function release (...places: readonly Place[]): Promise<void> {
    await Promise.allSettled(places.map(async ({ key, owner }) => store.release(key, owner)))
  }

  return Object.freeze({
    async enter ({ user, address }: Attempt) {
      const byAddress = await take(JSON.stringify(['address', networkOf(address)]), MAX_FAILURES.address)
      if ('retryAfterSeconds' in byAddress) return byAddress
      const byUser = await take(JSON.stringify(['user', user]), MAX_FAILURES.user)
      if ('retryAfterSeconds' in byUser) {
        await release(byAddress)
        return byUser
      }
      return { leave: async () => release(byAddress, byUser) }
    }
  })
}

/** Whoever has one IPv6 address has 64 bits of them. */
function networkOf (address: string): string {
  const parsed = parseAddress(address)
  if (parsed === undefined) return address
  return parsed.family === 4 ? formatAddress(parsed) : parsed.words.slice(0, 2).join(':')
}
