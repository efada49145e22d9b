/**
 * Opens encrypted tokens (JWE compact serialisation, RFC 7516 section 3.1), which hold a signed token and nothing else:
 * encryption to a public key is confidentiality, and proves nothing about who wrote it.
 */

import { KeyObject, createPrivateKey, createSecretKey, type JsonWebKey } from 'node:crypto'
import { isLive, OptionReader, readLifetime, type AuthError, type Lifetime, type LifetimeMs } from '@sallyport/guard'
import { CompactEncrypt, compactDecrypt } from 'jose'
import { refusal } from './errors.js'
import { isSameKey, secretKeyOf } from './keys.js'
import { isBase64Url, parseSegment } from './parse-token.js'

/** Key management offered here (RFC 7518 section 4.1); RSA1_5, PBES2 and the rest are not. */
export const keyManagementAlgorithms = ['dir', 'A256KW', 'RSA-OAEP-256', 'ECDH-ES', 'ECDH-ES+A256KW'] as const
/** Content encryption offered here (RFC 7518 section 5.1). */
export const contentEncryptionAlgorithms = ['A256GCM', 'A128CBC-HS256'] as const

export type KeyManagementAlgorithm = typeof keyManagementAlgorithms[number]
export type ContentEncryptionAlgorithm = typeof contentEncryptionAlgorithms[number]

/** One key that opens tokens. It serves one key-management algorithm. */
export interface DecryptionKey extends Lifetime {
  /** A private key (`KeyObject` or JWK), or a shared key of 32 bytes (bytes, `KeyObject` or an `oct` JWK). */
  readonly key: KeyObject | JsonWebKey | Uint8Array
  readonly algorithm: KeyManagementAlgorithm
  /** Compared with the token's `kid`, where both have one. */
  readonly id?: string
}

export interface EncryptionOptions {
  /** `required`: signed tokens that are not encrypted are refused. `accepted`: both are taken. */
  readonly mode: 'required' | 'accepted'
  /**
   * Not empty; several while one replaces another. Or a function that gives the list as it is now: it is asked for every token,
   * and must answer at once, with the same array until something has changed. Throwing, or giving a key that may not be used, is 503.
   */
  readonly keys: readonly DecryptionKey[] | (() => readonly DecryptionKey[])
  /** The key-management algorithms that tokens may use. */
  readonly keyManagement: readonly KeyManagementAlgorithm[]
  /** The content-encryption algorithms that tokens may use. */
  readonly contentEncryption: readonly ContentEncryptionAlgorithm[]
}

export interface OpeningKey extends LifetimeMs {
  readonly id: string | undefined
  readonly algorithm: KeyManagementAlgorithm
  readonly key: KeyObject
}

export interface ResolvedEncryption {
  readonly mode: 'required' | 'accepted'
  /** As they are now; the same objects until they change. Throws a refusal where they can't be had. */
  readonly keys: () => readonly OpeningKey[]
  readonly keyManagement: readonly string[]
  readonly contentEncryption: readonly string[]
}

/** What was inside, and which key opened it. */
export interface OpenedToken {
  readonly inner: string
  readonly key: OpeningKey
  /** Claims replicated in the header (RFC 7519 section 5.3); they must equal those inside. */
  readonly replicated: Readonly<Record<string, unknown>>
}

export const encryptionNames = ['mode', 'keys', 'keyManagement', 'contentEncryption'] as const

/** Checks the `encryption` option. Throws `OptionsError`. */
export function resolveEncryption (reader: OptionReader): ResolvedEncryption {
  const mode = reader.oneOf('mode', ['required', 'accepted'])
  if (mode === undefined) throw reader.error('mode', 'is required: "required" or "accepted"')
  const keyManagement = readAllowed(reader, 'keyManagement', keyManagementAlgorithms)
  const contentEncryption = readAllowed(reader, 'contentEncryption', contentEncryptionAlgorithms)
  const ask = reader.raw('keys')
  const keys = typeof ask === 'function' ? followedKeys(reader, ask as () => unknown, keyManagement) : listedKeys(reader, keyManagement)
  return Object.freeze({ mode, keys, keyManagement, contentEncryption })
}

function listedKeys (reader: OptionReader, keyManagement: readonly string[]): ResolvedEncryption['keys'] {
  const keys = resolveOpeningKeys(reader, keyManagement)
  return () => keys
}

/** Each array is checked once; the first here, so that a wrong one fails the registration. */
function followedKeys (reader: OptionReader, ask: () => unknown, keyManagement: readonly string[]): ResolvedEncryption['keys'] {
  const resolve = (given: unknown) => ({ given, keys: resolveOpeningKeys(new OptionReader(reader.owner, { keys: given }, ['keys'], reader.pathOf('')), keyManagement) })
  let latest = resolve(ask())
  return function currentKeys () {
    try {
      const given = ask()
      if (given !== latest.given) latest = resolve(given)
      return latest.keys
    } catch (cause) {
      throw refusal('ERR_BEARER_JWT_KEYS_UNAVAILABLE', { reason: 'resolver', cause, retryAfterSeconds: 1 })
    }
  }
}

function resolveOpeningKeys (reader: OptionReader, keyManagement: readonly string[]): readonly OpeningKey[] {
  const given = reader.list('keys')
  if (given === undefined) throw reader.error('keys', 'is required')
  const keys = given.map((_key, i) => resolveOpeningKey(reader.nested('keys', ['key', 'algorithm', 'id', 'notBefore', 'notAfter'], i)))
  const unused = keys.findIndex(({ algorithm }) => !keyManagement.includes(algorithm))
  if (unused >= 0) throw reader.error(`keys[${unused}].algorithm`, 'is not in "keyManagement"')
  return Object.freeze(keys)
}

function readAllowed<T extends string> (reader: OptionReader, name: string, offered: readonly T[]): readonly T[] {
  const given = reader.texts(name)
  if (given === undefined) throw reader.error(name, 'is required: algorithms are pinned, never taken from a token')
  if (!given.every((algorithm) => offered.includes(algorithm as T))) throw reader.error(name, `must hold only: ${offered.join(', ')}`)
  return given as readonly T[]
}

function resolveOpeningKey (reader: OptionReader): OpeningKey {
  const algorithm = reader.oneOf('algorithm', keyManagementAlgorithms)
  if (algorithm === undefined) throw reader.error('algorithm', 'is required')
  const key = importKey(reader, reader.raw('key'))
  if (!fits(key, algorithm)) throw reader.error('key', `can't serve ${algorithm}: that takes ${needs(algorithm)}`)
  return Object.freeze({ id: reader.text('id'), algorithm, key, ...readLifetime(reader) })
}

function importKey (reader: OptionReader, given: unknown): KeyObject {
  if (given instanceof KeyObject) return given
  if (given instanceof Uint8Array && given.length > 0) return createSecretKey(given)
  if (typeof given === 'object' && given !== null && typeof (given as JsonWebKey).kty === 'string') {
    const jwk = given as JsonWebKey
    try {
      return jwk.kty === 'oct' ? secretKeyOf(jwk.k ?? '') : createPrivateKey({ key: jwk, format: 'jwk' })
    } catch {
      throw reader.error('key', 'is not a JWK that can be used')
    }
  }
  throw reader.error('key', 'must be a KeyObject, a JWK or 32 secret bytes')
}

function fits (key: KeyObject, algorithm: KeyManagementAlgorithm): boolean {
  if (algorithm === 'dir' || algorithm === 'A256KW') return key.type === 'secret' && key.symmetricKeySize === 32
  if (key.type !== 'private') return false
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key
  if (algorithm === 'RSA-OAEP-256') return type === 'rsa' && (details?.modulusLength ?? 0) >= 2048
  return type === 'x25519' || (type === 'ec' && ['prime256v1', 'secp384r1', 'secp521r1'].includes(details?.namedCurve ?? ''))
}

function needs (algorithm: KeyManagementAlgorithm): string {
  if (algorithm === 'dir' || algorithm === 'A256KW') return 'a secret of 32 bytes'
  return algorithm === 'RSA-OAEP-256' ? 'a private RSA key of 2048 bits or more' : 'a private key on P-256, P-384, P-521 or X25519'
}

/** Five parts, where a signed token has three. */
export function isEncrypted (token: string): boolean {
  return token.split('.', 6).length === 5
}

/** Opens a token. Every failure, whatever its cause, is one refusal. */
export async function openToken (token: string, encryption: ResolvedEncryption, nowMs: number): Promise<OpenedToken> {
  const header = readHeader(token, encryption)
  const live = encryption.keys().filter((key) => key.algorithm === header.alg && isLive(key, nowMs))
  const named = live.filter((key) => header.kid === undefined || key.id === undefined || key.id === header.kid)
  // An unknown key id costs what a wrong key costs.
  for (const key of named.length > 0 ? named : live.slice(0, 1)) {
    const inner = await decrypt(token, key, header)
    if (inner !== undefined && named.length > 0) return { inner, key, replicated: header.replicated }
  }
  throw unreadable('decryption')
}

interface OpenHeader {
  readonly alg: string
  readonly enc: string
  readonly kid: string | undefined
  readonly replicated: Readonly<Record<string, unknown>>
}

/** Everything dangerous is refused here, before any key is touched. */
function readHeader (token: string, { keyManagement, contentEncryption }: ResolvedEncryption): OpenHeader {
  const [protectedHeader = '', ...rest] = token.split('.')
  if (!rest.every(isBase64Url)) throw unreadable('malformed')
  const header = parseSegment(protectedHeader)
  const own = (name: string): unknown => Object.hasOwn(header, name) ? header[name] : undefined
  const [alg, enc, kid, cty] = ['alg', 'enc', 'kid', 'cty'].map(own)
  if (typeof alg !== 'string' || !keyManagement.includes(alg) || typeof enc !== 'string' || !contentEncryption.includes(enc)) throw unreadable('algorithm')
  // `zip` inflates, the `p2` parameters cost work, and no extension is understood here.
  if (['zip', 'crit', 'b64', 'p2c', 'p2s'].some((name) => Object.hasOwn(header, name))) throw unreadable('critical-header')
  if (kid !== undefined && typeof kid !== 'string') throw unreadable('malformed')
  if (typeof cty !== 'string' || cty.toLowerCase() !== 'jwt') throw unreadable('not-nested')
  const replicated = Object.fromEntries(['iss', 'sub', 'aud'].filter((name) => Object.hasOwn(header, name)).map((name) => [name, header[name]]))
  return { alg, enc, kid, replicated }
}

async function decrypt (token: string, { key }: OpeningKey, { alg, enc }: OpenHeader): Promise<string | undefined> {
  try {
    const { plaintext } = await compactDecrypt(token, key, { keyManagementAlgorithms: [alg], contentEncryptionAlgorithms: [enc], maxDecompressedLength: 0 })
    return Buffer.from(plaintext).toString('latin1')
  } catch {
    return undefined
  }
}

function unreadable (reason: string): AuthError {
  return refusal('ERR_BEARER_JWT_TOKEN_INVALID', { reason })
}

/** The key that tokens are sealed with. */
export interface SealingKey {
  readonly key: KeyObject
  readonly algorithm: KeyManagementAlgorithm
  readonly contentEncryption: ContentEncryptionAlgorithm
  readonly id: string
}

/** True while the key that opened a token would be taken again; a list that changed may hold it in a new object. */
export function isOpeningKey (opened: OpeningKey, { keys }: ResolvedEncryption, nowMs: number): boolean {
  const current = keys()
  for (let i = 0; i < current.length; i++) if (isLive(current[i]!, nowMs) && isSameKey(current[i]!, opened)) return true
  return false
}

/** Encrypts a signed token: JWE(JWS), `cty: JWT` (RFC 7519 section 5.2). */
export async function sealToken (signed: string, { key, algorithm, contentEncryption, id }: SealingKey): Promise<string> {
  return new CompactEncrypt(Buffer.from(signed))
    .setProtectedHeader({ alg: algorithm, enc: contentEncryption, cty: 'JWT', kid: id })
    .encrypt(key)
}
