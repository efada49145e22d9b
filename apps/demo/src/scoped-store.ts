/** A part of a state store that belongs to one system alone. */

import type { StateStore } from '@sallyport/guard'

/** The same store with `scope` before every key, so that the lists and revocations of two systems never meet. */
export function scopedStore (store: StateStore, scope: string): StateStore {
  const nameOf = (key: string): string => `${scope}:${key}`
  return {
    claim: async (key, ttlMs, value) => store.claim(nameOf(key), ttlMs, value),
    release: async (key, owner) => store.release(nameOf(key), owner),
    get: async (key) => store.get(nameOf(key)),
    set: async (key, value, ttlMs) => store.set(nameOf(key), value, ttlMs),
    delete: async (key) => store.delete(nameOf(key)),
    ...(store.createdAt !== undefined && { createdAt: store.createdAt })
  }
}
