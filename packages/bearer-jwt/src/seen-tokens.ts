/** Remembers of very many tokens that they came, in a few bits each and without garbage. */

const BITS_PER_TOKEN = 16
const TAIL = 8

/**
 * A set of tokens that may hold more than was put in, and forgets everything now and then: good for telling that a token is
 * new, and for nothing else. It looks at the ends of tokens, which are the ends of signatures.
 */
export class SeenTokens {
  readonly #words: Int32Array
  readonly #most: number
  #count = 0

  /** @param entries how many tokens it should tell apart */
  constructor (entries: number) {
    this.#words = new Int32Array(2 ** Math.ceil(Math.log2(Math.max(1, entries * BITS_PER_TOKEN / 32))))
    this.#most = 2 * entries
  }

  has (token: string): boolean {
    const bit = bitOf(token)
    return (this.#words[(bit >>> 5) & (this.#words.length - 1)]! & 1 << (bit & 31)) !== 0
  }

  add (token: string): void {
    if (this.#count++ >= this.#most) {
      this.#words.fill(0)
      this.#count = 1
    }
    const bit = bitOf(token)
    this.#words[(bit >>> 5) & (this.#words.length - 1)]! |= 1 << (bit & 31)
  }
}

/** FNV-1a over the end of the token. */
function bitOf (token: string): number {
  let bits = 0x811c9dc5
  for (let i = Math.max(0, token.length - TAIL); i < token.length; i++) bits = Math.imul(bits ^ token.charCodeAt(i), 0x01000193)
  return bits ^ bits >>> 15
}
