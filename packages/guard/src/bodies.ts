/** Bodies: watched as they come over the wire and never kept, so that a gigabyte costs no more memory than a kilobyte. */

import type { IncomingMessage } from 'node:http'
import type { Readable } from 'node:stream'
import type { FastifyRequest } from 'fastify'
import { refusal, type AuthError } from './errors.js'
import type { BodyWatch } from './guard.js'
import { ignoreRejection, isThenable } from './resolver.js'

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
  readonly #isEmpty: boolean
  readonly #watches: BodyWatch[] = []
  /** Bytes that the headers announced; `NaN` where they did not. */
  readonly #length: number
  readonly #listener = (piece: unknown): void => { this.#take(piece) }
  #seen = 0
  #fault: AuthError | undefined

  constructor (request: FastifyRequest) {
    const { raw } = request
    this.#raw = raw
    this.#isEmpty = !hasBody(request)
    this.#length = Number(raw.headers['content-length'])
    if (!this.#isEmpty) lookOn(raw, this.#listener)
  }

  /** True once all of it has been read, or where there is none; no more where the client breaks an HTTP/2 stream off after that. */
  get hasEnded (): boolean {
    return this.#isEmpty || (this.#raw.readableEnded && !this.#raw.aborted)
  }

  /** True if the connection closed before the end. An HTTP/2 stream that breaks off ends, for who reads it, as if all had come. */
  get isGone (): boolean {
    return !this.hasEnded && (this.#raw.destroyed || this.#raw.aborted)
  }

  /** Shows the body to more watches; false if somebody has already read of it. */
  watch (watches: readonly BodyWatch[]): boolean {
    for (let i = 0; i < watches.length; i++) {
      if (this.#watches.includes(watches[i]!)) continue
      if (!this.#isEmpty && this.#raw.readableDidRead) return false
      this.#watches.push(watches[i]!)
    }
    return true
  }

  /** Calls back if the connection closes before the end. */
  whenGone (act: () => void): void {
    if (this.isGone) act()
    else this.#raw.once('close', () => { if (this.isGone) act() })
  }

  /** A refusal, or nothing once all of it has been read; at once where it has been. One that nobody reads is refused at its first byte. */
  whole ({ waitsForReader }: { readonly waitsForReader: boolean }): AuthError | undefined | Promise<AuthError | undefined> {
    return this.hasEnded || this.isGone ? this.#asRead() : this.#wait(waitsForReader)
  }

  async #wait (waitsForReader: boolean): Promise<AuthError | undefined> {
    const raw = this.#raw
    // A parser may be done before the last bytes have come; as long as they come, they are waited for.
    const isRead = waitsForReader || raw.readableFlowing === true
    await new Promise<void>((resolve) => {
      raw.once('end', resolve)
      raw.once('close', resolve)
      if (isRead) return
      raw.once('data', () => { raw.pause(); resolve() })
      raw.resume()
    })
    return this.#asRead()
  }

  #asRead (): AuthError | undefined {
    if (!this.hasEnded) return unread(this.isGone ? 'connection-closed' : 'unread')
    return this.#fault ?? (this.#wasHidden ? unread('unseen') : undefined)
  }

  /** True if somebody has taken the listeners off the stream, and read of it what nobody here has seen. */
  get #wasHidden (): boolean {
    if (this.#isEmpty) return false
    return Number.isNaN(this.#length) ? !this.#raw.listeners('data').includes(this.#listener) : this.#seen !== this.#length
  }

  #take (piece: unknown): void {
    // Somebody has called setEncoding(): text can't be turned back into the bytes that were sent.
    if (!(piece instanceof Uint8Array)) this.#fault ??= refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'body-decoded' })
    if (this.#fault !== undefined) return
    const { length } = piece as Uint8Array
    this.#seen += length
    // What was shown as the whole body must have been it; somebody may have put back what was read.
    if (this.#seen > this.#length) this.#fault = unread('longer-than-announced')
    else this.#show(piece as Uint8Array, length === this.#length)
  }

  #show (piece: Uint8Array, isWhole: boolean): void {
    try {
      for (let i = 0; i < this.#watches.length; i++) {
        const later: unknown = this.#watches[i]!.update(piece, isWhole)
        if (!isThenable(later)) continue
        ignoreRejection(later)
        this.#fault ??= refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'update-later' })
      }
    } catch (cause) {
      this.#fault = refusal('ERR_GUARD_JUDGE_FAILED', { reason: 'threw', cause })
    }
  }
}

function unread (reason: string): AuthError {
  return refusal('ERR_GUARD_BODY_UNREAD', { reason })
}

/** Listens without setting the stream flowing, and without pausing it: a reader that only listens has to set it flowing still. */
function lookOn (raw: { readableFlowing: boolean | null }, listener: (piece: unknown) => void): void {
  const flowing = raw.readableFlowing
  raw.readableFlowing = false
  ;(raw as Readable).on('data', listener)
  raw.readableFlowing = flowing
}
