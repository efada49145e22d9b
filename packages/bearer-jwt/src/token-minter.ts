/** The client's side: mints the caller's own short-lived token for each request. */

import { createPublicKey, createSecretKey, KeyObject } from 'node:crypto'
import { OptionReader } from '@sallyport/guard'
import { algorithms, checkPublicKey, type Algorithm } from './keys.js'
import { createSignature } from './private-jwt.js'

const OWNER = 'createTokenMinter'
const optionNames = ['key', 'algorithm', 'id', 'claims', 'lifetimeSeconds', 'clock']

export interface TokenMinterOptions {
  /** The caller's own secret (bytes or `KeyObject`) or private key (`KeyObject`). */
  readonly key: Uint8Array | KeyObject
  /** Default: `HS256` for secrets, required for private keys. */
  readonly algorithm?: Algorithm
  /** Sent as `kid`. */
  readonly id?: string
  /** Claims that every token carries. */
  readonly claims?: Readonly<Record<string, unknown>>
  /** How long a token lives: `exp` - `nbf`. Seconds. Default: 15. */
  readonly lifetimeSeconds?: number
  /** Milliseconds since the epoch; for tests. Default: `Date.now`. */
  readonly clock?: () => number
}

/** A fresh token with `nbf` (now) and `exp`; what is given here is added to the claims and wins over them. */
export type MintToken = (claims?: Readonly<Record<string, unknown>>) => string

/**
 * Creates a minter for a client of an API that wants a fresh token with each request.
 * Throws `OptionsError` for unknown options and for a key that the algorithm can't use.
 */
export async function createTokenMinter (options: TokenMinterOptions): Promise<MintToken> {
  const reader = new OptionReader(OWNER, options, optionNames)
  const key = readKey(reader)
  const algorithm = reader.oneOf('algorithm', algorithms) ?? (key.type === 'secret' ? 'HS256' : undefined)
  if (algorithm === undefined) throw reader.error('algorithm', 'is required for a private key')
  if (algorithm.startsWith('HS') !== (key.type === 'secret')) throw reader.error('algorithm', `can't sign with a ${key.type} key`)
  if (key.type === 'private') checkPublicKey(reader, createPublicKey(key), algorithm)
  const common = readClaims(reader)
  const lifetimeSeconds = reader.integer('lifetimeSeconds', { min: 1 }, 15)
  const clock = reader.fn('clock', Date.now)
  const sign = await createSignature({ key, algorithm }, reader.text('id'))
  return function mintToken (claims) {
    const nbf = Math.floor(clock() / 1000)
    return sign({ nbf, exp: nbf + lifetimeSeconds, ...common, ...claims })
  }
}

function readClaims (reader: OptionReader): object {
  const given: unknown = reader.raw('claims') ?? {}
  if (typeof given !== 'object' || Array.isArray(given)) throw reader.error('claims', 'must be an object')
  return Object.freeze({ ...given })
}

function readKey (reader: OptionReader): KeyObject {
  const given = reader.raw('key')
  if (given instanceof KeyObject && given.type !== 'public') return given
  if (given instanceof Uint8Array && given.length > 0) return createSecretKey(given)
  throw reader.error('key', 'must be secret bytes, or a secret or private KeyObject')
}
