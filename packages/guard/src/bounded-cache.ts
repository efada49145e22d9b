/** A map that forgets: bounded, and cheap where an entry is asked for often. */

/**
 * A map with at most so many entries, for what plugins remember between requests.
 *
 * Two generations instead of a list in order of use: an entry that is asked for survives, one that nobody asked for in a
 * whole generation is dropped.
 */
export class BoundedCache<V> {
  readonly #perGeneration: number
  #young = new Map<string, V>()
  #old = new Map<string, V>()

  /** @param maxEntries 0 keeps nothing */
  constructor (maxEntries: number) {
    this.#perGeneration = Math.ceil(maxEntries / 2)
  }

  get (key: string): V | undefined {
    const young = this.#young.get(key)
    if (young !== undefined) return young
    const old = this.#old.get(key)
    if (old !== undefined) this.set(key, old)
    return old
  }

  set (key: string, value: V): void {
    if (this.#perGeneration === 0) return
    if (this.#young.size >= this.#perGeneration) {
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(key, value)
    this.#old.delete(key)
  }

  delete (key: string): void {
    this.#young.delete(key)
    this.#old.delete(key)
  }
}
