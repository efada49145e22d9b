/** Keys, typed at the border: what a key is, which one algorithm it serves, and that it is strong enough (RFC 7518). */

import { createPublicKey, createSecretKey, KeyObject, X509Certificate, type JsonWebKey } from 'node:crypto'
import { OptionReader, readLifetime, type Lifetime, type LifetimeMs } from '@sallyport/guard'

/** Signature algorithms (RFC 7518 section 3.1, RFC 8037). */
export const algorithms = [
  'HS256', 'HS384', 'HS512', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'
] as const

export type Algorithm = typeof algorithms[number]

/** One verification key. It serves one algorithm and can't be used for another. */
export interface JwtKey extends Lifetime {
  /**
   * A public key (`KeyObject` or JWK), or a shared secret (bytes, `KeyObject` or an `oct` JWK). Text is refused, since text
   * could be either; write `Buffer.from(secret)`. Private keys are refused, and secrets that look like a public key.
   */
  readonly key: KeyObject | JsonWebKey | Uint8Array
  /** Default: the JWK's `alg`, else by the key: RSA `RS256`, P-256 `ES256`, P-384 `ES384`, P-521 `ES512`, Ed25519 `EdDSA`, secrets `HS256`. */
  readonly algorithm?: Algorithm
  /** Compared with the token's `kid`, where both have one, unless a resolver gave the key. Default: the JWK's `kid`. Named in decision events. */
  readonly id?: string
}

/** Lets secrets be shorter than RFC 7518 section 3.2 asks, for a partner who can't change theirs yet; the audit shows the reason. */
export interface ShortSecrets {
  /** 16 at the least. */
  readonly minimumBytes: number
  readonly reason: string
}

export interface TrustedKey extends LifetimeMs {
  readonly id: string | undefined
  readonly algorithm: Algorithm
  readonly key: KeyObject
}

/** Whoever gives keys may give the same one in a new object each time. */
export function isSameKey (one: NamedKey, other: NamedKey): boolean {
  return one === other || (one.algorithm === other.algorithm && one.id === other.id && one.key.equals(other.key))
}

interface NamedKey { readonly id: string | undefined, readonly algorithm: string, readonly key: KeyObject }

const curveAlgorithms: Readonly<Record<string, Algorithm>> = { prime256v1: 'ES256', secp384r1: 'ES384', secp521r1: 'ES512' }
const secretBytes: Readonly<Record<string, number>> = { HS256: 32, HS384: 48, HS512: 64 }
const keyNames = ['key', 'algorithm', 'id', 'notBefore', 'notAfter']
// Primes modulo which 65537 generates few of the residues.
const rocaPrimes = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157]

export interface KeyRules {
  readonly owner: string
  /** Where the key stands in the options: `keys[0].` */
  readonly path: string
  readonly shortSecrets: ShortSecrets | undefined
  /** The only algorithms that any key may serve; `undefined`: whatever the key is for. */
  readonly algorithms: readonly Algorithm[] | undefined
}

/** Checks a key and pins its algorithm. Throws `OptionsError` naming the rule. */
export function resolveKey (given: unknown, rules: KeyRules): TrustedKey {
  const reader = new OptionReader(rules.owner, given, keyNames, rules.path)
  const { key, jwk } = readKeyMaterial(reader)
  const algorithm = reader.oneOf('algorithm', algorithms) ?? algorithmOf(reader, key, jwk)
  checkFit(reader, key, algorithm, rules.shortSecrets)
  if (rules.algorithms !== undefined && !rules.algorithms.includes(algorithm)) {
    throw reader.error('algorithm', `is ${algorithm}, which is not in "algorithms"`)
  }
  return Object.freeze({ id: reader.text('id') ?? textOr(jwk?.['kid']), algorithm, key, ...readLifetime(reader) })
}

function readKeyMaterial (reader: OptionReader): { key: KeyObject, jwk?: JsonWebKey } {
  const given = reader.raw('key')
  if (typeof given === 'string') throw reader.error('key', 'must not be text, which could be a secret or a public key; write Buffer.from(secret), or createPublicKey(pem)')
  if (given instanceof KeyObject) return { key: given }
  if (given instanceof Uint8Array) {
    if (given.length === 0) throw reader.error('key', 'must not be empty')
    return { key: createSecretKey(given) }
  }
  if (typeof given === 'object' && given !== null && typeof (given as JsonWebKey).kty === 'string') return { key: importJwk(reader, given as JsonWebKey), jwk: given as JsonWebKey }
  throw reader.error('key', 'must be a KeyObject, a JWK or secret bytes')
}

function importJwk (reader: OptionReader, jwk: JsonWebKey): KeyObject {
  if ('d' in jwk) throw reader.error('key', 'must not be a private JWK; verification needs the public one')
  const { use, key_ops: operations } = jwk as { use?: unknown, key_ops?: unknown }
  if (use !== undefined && use !== 'sig') throw reader.error('key', 'is a JWK whose "use" is not "sig"')
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify'))) throw reader.error('key', 'is a JWK whose "key_ops" has no "verify"')
  if (jwk.kty === 'oct') {
    if (typeof jwk.k !== 'string' || !/^[\w-]+$/.test(jwk.k)) throw reader.error('key', 'is an "oct" JWK without a base64url "k"')
    return secretKeyOf(jwk.k)
  }
  try {
    return createPublicKey({ key: jwk, format: 'jwk' })
  } catch {
    throw reader.error('key', 'is not a JWK that can be used')
  }
}

/** The key of an `oct` JWK. Small buffers share memory, so nothing of it is left in one. */
export function secretKeyOf (base64url: string): KeyObject {
  const bytes = Buffer.from(base64url, 'base64url')
  const key = createSecretKey(bytes)
  bytes.fill(0)
  return key
}

function algorithmOf (reader: OptionReader, key: KeyObject, jwk: JsonWebKey | undefined): Algorithm {
  const named = jwk?.['alg']
  if (named !== undefined) {
    if (!algorithms.includes(named as Algorithm)) throw reader.error('key', 'is a JWK whose "alg" is no signature algorithm offered here')
    return named as Algorithm
  }
  if (key.type === 'secret') return 'HS256'
  const { asymmetricKeyType, asymmetricKeyDetails } = key
  if (asymmetricKeyType === 'rsa') return 'RS256'
  if (asymmetricKeyType === 'ed25519') return 'EdDSA'
  const byCurve = curveAlgorithms[asymmetricKeyDetails?.namedCurve ?? '']
  if (byCurve === undefined) throw reader.error('key', 'is of a type or curve that serves no algorithm offered here')
  return byCurve
}

function checkFit (reader: OptionReader, key: KeyObject, algorithm: Algorithm, shortSecrets: ShortSecrets | undefined): void {
  if (key.type === 'private') throw reader.error('key', 'must not be a private key; verification needs the public one')
  const needed = secretBytes[algorithm]
  if ((needed !== undefined) !== (key.type === 'secret')) throw reader.error('key', `can't serve ${algorithm}: a public key is never a secret, nor a secret a public key`)
  if (needed !== undefined) checkSecret(reader, key, algorithm, Math.min(needed, shortSecrets?.minimumBytes ?? needed))
  else checkPublicKey(reader, key, algorithm)
}

function checkSecret (reader: OptionReader, key: KeyObject, algorithm: Algorithm, minimum: number): void {
  const bytes = key.export()
  if (bytes.length < minimum) throw reader.error('key', `has ${bytes.length} bytes; ${algorithm} needs ${minimum} or more (RFC 7518 section 3.2)`)
  if (looksPublic(bytes)) throw reader.error('key', 'looks like a public key, which anybody could sign with; give it as a KeyObject or JWK')
}

/** A public key in a form that people have at hand, given as secret bytes: the mistake behind algorithm confusion. */
function looksPublic (bytes: Buffer): boolean {
  // UTF-16 has a zero beside each letter.
  const text = bytes.toString('latin1').replaceAll('\0', '')
  if (text.includes('-----BEGIN ') || text.includes('"kty"') || /^\s*(?:ssh-|sk-|ecdsa-sha2-)/.test(text)) return true
  return isDer(bytes) || (/^\s*M[\w+/=\s-]+$/.test(text) && isDer(Buffer.from(text, 'base64')))
}

/** A key or certificate. DER begins with a sequence; looking further costs more than checking a signature. */
function isDer (bytes: Buffer): boolean {
  if (bytes[0] !== 0x30) return false
  const readers = [
    () => createPublicKey({ key: bytes, format: 'der', type: 'spki' }),
    () => createPublicKey({ key: bytes, format: 'der', type: 'pkcs1' }),
    () => new X509Certificate(bytes)
  ]
  return readers.some((read) => {
    try {
      read()
      return true
    } catch {
      return false
    }
  })
}

/** Throws if a public key is of another type than the algorithm's, or too weak to prove anything. */
export function checkPublicKey (reader: OptionReader, key: KeyObject, algorithm: Algorithm): void {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key
  const isRsa = algorithm.startsWith('RS') || algorithm.startsWith('PS')
  const fits = isRsa ? type === 'rsa' : algorithm === 'EdDSA' ? type === 'ed25519' : curveAlgorithms[details?.namedCurve ?? ''] === algorithm
  if (!fits) throw reader.error('key', `can't serve ${algorithm}`)
  if (!isRsa) return
  if ((details?.modulusLength ?? 0) < 2048) throw reader.error('key', `has ${details?.modulusLength} bits; ${algorithm} needs 2048 or more (RFC 7518 section 3.3)`)
  const exponent = details?.publicExponent ?? 0n
  if (exponent < 3n || exponent % 2n === 0n) throw reader.error('key', 'has an RSA exponent that proves nothing')
  if (isRoca(key)) throw reader.error('key', 'was made by a broken generator (ROCA, CVE-2017-15361), so anybody can find its private half')
}

/** The moduli of that generator are powers of 65537 modulo every small prime, which an honest one is with a chance of some 2^-27. */
function isRoca (key: KeyObject): boolean {
  const modulus = BigInt(`0x${Buffer.from(key.export({ format: 'jwk' }).n!, 'base64url').toString('hex')}`)
  return rocaPrimes.every((prime) => {
    const residue = Number(modulus % BigInt(prime))
    let power = 1
    do {
      if (power === residue) return true
      power = power * 65537 % prime
    } while (power !== 1)
    return false
  })
}

function textOr (value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}
