/** A map that forgets: bounded, and cheap where an entry is asked for often. */

/** The same text in memory of its own: what was cut out of a text keeps all of that alive, and with it, maybe, somebody's credential. */
export function ownText (text: string): string {
  return Buffer.from(text, 'utf16le').toString('utf16le')
}

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
    const own = ownText(key)
    if (this.#young.size >= this.#perGeneration) {
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(own, value)
    this.#old.delete(own)
  }

  delete (key: string): void {
    this.#young.delete(key)
    this.#old.delete(key)
  }
}
