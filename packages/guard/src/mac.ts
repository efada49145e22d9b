/** Message authentication codes (HMAC, RFC 2104), computed and compared. */

import { createHmac, createSecretKey, hash, timingSafeEqual, type Hmac, type KeyObject } from 'node:crypto'
import { OptionsError } from './errors.js'

export type MacAlgorithm = 'sha1' | 'sha256' | 'sha384' | 'sha512'

/** The MACs of one key. */
export interface Mac {
  /** Bytes of each MAC. */
  readonly length: number
  /** The MAC of a whole message; a string is taken as UTF-8. Throws `TypeError` for anything else. */
  readonly of: (message: string | Uint8Array) => Buffer
  /** True if a presented MAC is that of the message, all of it. How long that takes says nothing but whether its length is right. */
  readonly isOf: (message: string | Uint8Array, presented: Uint8Array) => boolean
  /** The MAC of a message that comes in pieces: `update` as they come, `digest` once at the end. */
  readonly start: () => Hmac
}

const sizes: Readonly<Record<MacAlgorithm, { readonly block: number, readonly length: number }>> = {
  sha1: { block: 64, length: 20 },
  sha256: { block: 64, length: 32 },
  sha384: { block: 128, length: 48 },
  sha512: { block: 128, length: 64 }
}

/**
 * Where a key's pad and a message lie side by side while they are hashed; one for all keys, since nothing waits in between.
 * Messages that might not fit are rare, and for them the way through `createHmac` takes no longer.
 */
const scratch = Buffer.allocUnsafeSlow(16 * 1024)
const longestString = Math.floor((scratch.length - 128) / 3)
/** Where MACs lie, by their length, while they are compared. */
const compared: Readonly<Record<number, Buffer>> = Object.fromEntries(Object.values(sizes).map(({ length }) => [length, Buffer.allocUnsafeSlow(length)]))

/**
 * Prepares the MACs of one key, once. How long a key has to be is its user's rule; an empty one is never taken.
 *
 * A whole message is hashed twice in one shot each, behind pads that are made here: half the time of a `createHmac`, which
 * brings up an object of OpenSSL's for every message.
 * @throws OptionsError if the key is empty, or no secret
 */
export function createMac (algorithm: MacAlgorithm, key: KeyObject | Uint8Array): Mac {
  const secret = key instanceof Uint8Array ? createSecretKey(key) : key
  if (secret.type !== 'secret' || secret.symmetricKeySize === 0) throw new OptionsError('@sallyport/guard', 'key', 'must be a secret that is not empty')
  const { block, length } = sizes[algorithm]
  const bytes = secret.export()
  const blockKey = bytes.length > block ? hash(algorithm, bytes, 'buffer') : bytes
  // Memory of their own, here and below: what lies in Node's pool can be read by whoever gets a small buffer, through its `buffer`.
  const pads = Buffer.alloc(2 * block + length)
  const innerPad = pads.subarray(0, block)
  const outer = pads.subarray(block)
  writePad(innerPad, blockKey, 0x36)
  writePad(outer.subarray(0, block), blockKey, 0x5c)

  function of (message: string | Uint8Array): Buffer {
    const computed = Buffer.allocUnsafeSlow(length)
    compute(message, computed)
    return computed
  }

  function isOf (message: string | Uint8Array, presented: Uint8Array): boolean {
    const computed = compared[length]!
    compute(message, computed)
    return isSameMac({ computed, presented })
  }

  function compute (message: string | Uint8Array, into: Buffer): void {
    const isLong = typeof message === 'string' ? message.length > longestString : lengthOf(message) > scratch.length - block
    if (isLong) {
      start().update(message).digest().copy(into)
      return
    }
    scratch.set(innerPad)
    const end = block + write(message, block)
    // Strings of bytes, because they cost less than buffers at this border.
    outer.write(hash(algorithm, scratch.subarray(0, end), 'binary'), block, 'latin1')
    into.write(hash(algorithm, outer, 'binary'), 'latin1')
  }

  function start (): Hmac {
    return createHmac(algorithm, secret)
  }

  return { length, of, isOf, start }
}

/** True if a presented MAC is the computed one, all of it. How long that takes says nothing but whether the lengths agree. */
export function isSameMac ({ computed, presented }: { readonly computed: Uint8Array, readonly presented: Uint8Array }): boolean {
  return computed.length === presented.length && timingSafeEqual(computed, presented)
}

function writePad (pad: Uint8Array, key: Uint8Array, filler: number): void {
  pad.fill(filler)
  key.forEach((byte, index) => { pad[index] = byte ^ filler })
}

function write (message: string | Uint8Array, offset: number): number {
  if (typeof message === 'string') return scratch.write(message, offset)
  const length = lengthOf(message)
  scratch.set(message, offset)
  return length
}

/** A parsed body has no bytes, and would have the MAC of any other. */
function lengthOf (message: Uint8Array): number {
  if (!(message instanceof Uint8Array)) throw new TypeError('a MAC is made of text or bytes (string, Uint8Array)')
  return message.length
}
