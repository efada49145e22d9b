/** Bodies: watched as they come over the wire and never kept, so that a gigabyte costs no more memory than a kilobyte. */

import type { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import type { FastifyRequest } from 'fastify'
import { refusal, type AuthError } from './errors.js'
import type { BodyWatch } from './guard.js'

/**
 * Whether a body follows the headers, whatever the method. HTTP/1 (RFC 9112 section 6.3): a `Transfer-Encoding`, or a
 * `Content-Length` other than 0. HTTP/2 (RFC 9113 section 8.1): the stream did not end with the headers.
 */
export function hasBody ({ raw }: FastifyRequest): boolean {
  const { stream } = raw as { stream?: { readonly endAfterHeaders?: boolean } }
  if (stream !== undefined) return stream.endAfterHeaders !== true
  const { 'transfer-encoding': coding, 'content-length': length } = raw.headers
  return coding !== undefined || (length !== undefined && length !== '0')
}

/** The body of one request, from before its first byte. Whoever reads it reads as usual; this only looks on. */
export class WatchedBody {
  readonly #raw: IncomingMessage
  readonly #wasReadBefore: boolean
  readonly #onGone: (() => void)[] = []
  readonly #watches = new Set<BodyWatch>()
  #state: 'open' | 'ended' | 'gone' = 'open'
  #fault: AuthError | undefined
  #wake: (() => void) | undefined

  constructor (request: FastifyRequest) {
    const { raw } = request
    this.#raw = raw
    this.#wasReadBefore = raw.readableDidRead
    if (!hasBody(request)) {
      this.#state = 'ended'
      return
    }
    lookOn(raw, (piece) => { this.#take(piece) })
    raw.once('end', () => { this.#settle('ended') })
    raw.once('close', () => { this.#settle('gone') })
  }

  /** True once all of it has been read, or where there is none. */
  get hasEnded (): boolean {
    return this.#state === 'ended'
  }

  /** Shows the body to more watches; false if somebody has already read of it. */
  watch (watches: readonly BodyWatch[]): boolean {
    if (this.#wasReadBefore || (this.#state !== 'ended' && this.#raw.readableDidRead)) return false
    for (const watch of watches) this.#watches.add(watch)
    return true
  }

  /** Calls back if the connection closes before the end. */
  whenGone (act: () => void): void {
    if (this.#state === 'gone') act()
    else this.#onGone.push(act)
  }

  /** Resolves with a refusal, or with nothing once all of it has been read. One that nobody reads is refused at its first byte. */
  async whole ({ waitsForReader }: { readonly waitsForReader: boolean }): Promise<AuthError | undefined> {
    if (this.#state === 'open') {
      // A parser may be done before the last bytes have come; as long as they come, they are waited for.
      const isRead = waitsForReader || this.#raw.readableFlowing === true
      await new Promise<void>((resolve) => {
        this.#wake = resolve
        if (isRead) return
        this.#raw.once('data', () => { this.#raw.pause(); resolve() })
        this.#raw.resume()
      })
    }
    return this.#state === 'ended' ? this.#fault : refusal('ERR_GUARD_BODY_UNREAD', { reason: this.#state === 'gone' ? 'connection-closed' : 'unread' })
  }

  #take (piece: unknown): void {
    // Somebody has called setEncoding(): text can't be turned back into the bytes that were sent.
    if (!(piece instanceof Uint8Array)) this.#fault ??= refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'body-decoded' })
    if (this.#fault !== undefined) return
    try {
      for (const watch of this.#watches) watch.update(piece as Uint8Array)
    } catch (cause) {
      this.#fault = refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'threw', cause })
    }
  }

  #settle (state: 'ended' | 'gone'): void {
    if (this.#state !== 'open') return
    this.#state = state
    this.#wake?.()
    if (state === 'gone') for (const act of this.#onGone) act()
  }
}

/** Listens without setting the stream flowing, and without pausing it: a reader that only listens has to set it flowing still. */
function lookOn (raw: { readableFlowing: boolean | null }, listener: (piece: unknown) => void): void {
  const flowing = raw.readableFlowing
  raw.readableFlowing = false
  ;(raw as Readable).on('data', listener)
  raw.readableFlowing = flowing
}
