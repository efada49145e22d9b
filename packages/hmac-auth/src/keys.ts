/** Keys: shared secrets, checked and made ready once. */

import { createSecretKey, KeyObject, randomBytes } from 'node:crypto'
import { createMac, OptionReader, readLifetime, type Lifetime, type LifetimeMs, type Mac, type Principal } from '@sallyport/guard'
import { isKeyId } from './field-lines.js'
import { hashOf, hmacAlgorithms, type HmacAlgorithm, type Profile } from './profile.js'

/** One shared secret. Several may have one id, so that a secret can be replaced with an overlap. */
export interface HmacKey extends Lifetime {
  /** What requests name it by, 1 to 256 visible ASCII characters. It names a key and never a subject. */
  readonly id: string
  /** Bytes, or a secret `KeyObject`; at least as long as the hash (RFC 2104 section 3): 32 for `hmac-sha256`. Text is refused, since it could be hexadecimal, base64 or neither; write `Buffer.from(secret)`. */
  readonly secret: Uint8Array | KeyObject
  /** The account that the key belongs to. Required, unless `provesTenant` is false. */
  readonly tenant?: string
  /** The one algorithm that it serves. Default: all of the profile's. */
  readonly algorithm?: HmacAlgorithm
  /** Names this secret in decision events, where several have one id. Default: the id. */
  readonly label?: string
}

/** Lets secrets be shorter than their hash, for a partner who can't change theirs yet; the audit shows the reason. */
export interface ShortSecrets {
  /** 16 at the least; 1 with `authorizationHmac()`, since gateways took any. */
  readonly minimumBytes: number
  readonly reason: string
}

/** What a signature proves. Frozen. */
export interface HmacAuthIdentity {
  readonly keyId: string
  /** The tenant of the key, where keys have one. */
  readonly tenant?: string
}

export interface TrustedKey extends LifetimeMs {
  readonly id: string
  /** For decision events. */
  readonly label: string
  /** False for a stand-in of a key that does not exist. */
  readonly isReal: boolean
  readonly identity: HmacAuthIdentity
  readonly principal: Partial<Principal>
  /** The MACs of the algorithms that it serves. */
  readonly macs: Partial<Readonly<Record<HmacAlgorithm, Mac>>>
  /** For requests that name no algorithm. */
  readonly mac: Mac
}

export interface KeyRules {
  readonly owner: string
  readonly profile: Profile
  readonly provesTenant: boolean
  readonly shortSecrets: ShortSecrets | undefined
}

const keyNames = ['id', 'secret', 'tenant', 'algorithm', 'label', 'notBefore', 'notAfter']

/** How many secrets one id may have. */
export const MAX_SECRETS = 8

/**
 * Checks the keys of a list, or a resolver's answer, and makes them ready.
 * @param expectedId what a resolver was asked for; keys need not repeat it
 * Throws `OptionsError`.
 */
export function resolveKeys (given: readonly unknown[], rules: KeyRules, path: string, expectedId?: string): readonly TrustedKey[] {
  const keys: { readonly key: TrustedKey, readonly secret: KeyObject }[] = []
  for (const [i, entry] of given.entries()) {
    const reader = new OptionReader(rules.owner, entry, keyNames, `${path}[${i}].`)
    const one = resolveKey(reader, rules, expectedId)
    const { id, identity } = one.key
    const namesakes = keys.filter(({ key }) => key.id === id)
    if (namesakes.length === MAX_SECRETS) throw reader.error('id', `has more than ${MAX_SECRETS} secrets`)
    if (namesakes.some(({ key }) => key.identity.tenant !== identity.tenant)) throw reader.error('tenant', 'is another than that of an earlier key with this id')
    const twin = keys.find(({ secret }) => secret.equals(one.secret))
    if (twin !== undefined) throw reader.error('secret', twin.key.id === id ? 'is that of an earlier key' : 'is that of another id, so a signature of the one would be a signature of the other')
    keys.push(one)
  }
  return Object.freeze(keys.map(({ key }) => key))
}

function resolveKey (reader: OptionReader, rules: KeyRules, expectedId: string | undefined): { key: TrustedKey, secret: KeyObject } {
  const { profile, provesTenant, shortSecrets } = rules
  const id = reader.text('id') ?? expectedId
  if (id === undefined) throw reader.error('id', 'is required')
  if (!isKeyId(id)) throw reader.error('id', 'must be 1 to 256 visible ASCII characters, without quotes, commas and backslashes')
  if (expectedId !== undefined && id !== expectedId) throw reader.error('id', 'is not the one that was asked for')
  const tenant = reader.text('tenant')
  if (provesTenant && tenant === undefined) throw reader.error('tenant', 'is required: the account that the key belongs to; or set provesTenant: false')
  if (!provesTenant && tenant !== undefined) throw reader.error('tenant', 'can\'t be given with provesTenant: false')
  const algorithm = reader.oneOf('algorithm', profile.algorithms)
  const algorithms = algorithm === undefined ? profile.algorithms : [algorithm]
  const secret = readSecret(reader, algorithms, shortSecrets?.minimumBytes)
  const identity = Object.freeze({ keyId: id, ...(tenant !== undefined && { tenant }) })
  const key = Object.freeze({ id, label: reader.text('label', id), isReal: true, identity, principal: principalOf(tenant), ...macsOf(secret, algorithms), ...readLifetime(reader) })
  return { key, secret }
}

/** Checks a secret against the algorithms that it is to serve. Throws `OptionsError`. */
export function readSecret (reader: OptionReader, algorithms: readonly HmacAlgorithm[], minimumBytes = Infinity): KeyObject {
  const given = reader.raw('secret')
  if (typeof given === 'string') throw reader.error('secret', 'must not be text, which could be encoded in several ways; write Buffer.from(secret), or Buffer.from(secret, \'base64\')')
  const isKey = given instanceof KeyObject && given.type === 'secret'
  if (!isKey && !(given instanceof Uint8Array)) throw reader.error('secret', 'must be bytes or a secret KeyObject')
  const length = given instanceof Uint8Array ? given.length : given.symmetricKeySize ?? 0
  if (length === 0) throw reader.error('secret', 'must not be empty')
  for (const algorithm of algorithms) {
    const needed = createMac(hashOf[algorithm], zeros).length
    if (length < Math.min(needed, minimumBytes)) throw reader.error('secret', `has ${length} bytes; ${algorithm} needs ${needed} or more (RFC 2104 section 3)`)
  }
  return given instanceof Uint8Array ? createSecretKey(given) : given
}

const zeros = new Uint8Array(1)

function macsOf (secret: KeyObject, algorithms: readonly HmacAlgorithm[]): Pick<TrustedKey, 'mac' | 'macs'> {
  const macs = Object.fromEntries(algorithms.map((algorithm) => [algorithm, createMac(hashOf[algorithm], secret)]))
  return { macs: Object.freeze(macs), mac: macs[algorithms[0]!]! }
}

const noScopes: readonly string[] = Object.freeze([])

function principalOf (tenant: string | undefined): Partial<Principal> {
  return Object.freeze(tenant === undefined ? { scopes: noScopes } : { tenant, scopes: noScopes })
}

/** A key that nobody has: what an unknown id is judged by, so that it takes the work of a known one. */
export function createStandIn ({ profile, provesTenant }: KeyRules): TrustedKey {
  const tenant = provesTenant ? 'nobody' : undefined
  const identity = Object.freeze({ keyId: 'nobody', ...(tenant !== undefined && { tenant }) })
  const macs = macsOf(createSecretKey(randomBytes(64)), hmacAlgorithms.filter((algorithm) => profile.algorithms.includes(algorithm)))
  return Object.freeze({ id: 'nobody', label: 'nobody', isReal: false, identity, principal: principalOf(tenant), ...macs, notBeforeMs: -Infinity, notAfterMs: Infinity })
}
