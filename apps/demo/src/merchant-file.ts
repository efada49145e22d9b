/** The text of the merchant register: what a merchant is, and how what it was given is kept: the login hashed, the HMAC key sealed. */

import { hash, type KeyObject } from 'node:crypto'
import { OptionReader, type Lifetime } from '@sallyport/guard'
import { readMoment } from './register-file.js'
import { seal, unseal } from './sealing.js'

/** What a merchant is given at one time: a secret to log in with, and a key to sign requests with. */
export interface MerchantCredential {
  /** Names the HMAC key in requests; no secret. */
  readonly keyId: string
  /** A `KeyObject`, so that nothing prints it by accident. */
  readonly key: KeyObject
  readonly clientSecretHash: string
  /** Of both. */
  readonly lifetime: Lifetime
}

export interface Merchant {
  /** A whole number without leading zeros, as text; the merchant logs in with it. */
  readonly id: string
  readonly name: string
  /** Several while one replaces another; the newest last. */
  readonly credentials: readonly MerchantCredential[]
  /** Tokens issued in this second or before are refused. */
  readonly revokedAt?: Date | undefined
}

/** Rotations whose overlaps meet. */
export const MAX_CREDENTIALS = 8

const OWNER = 'merchant register'
const KEY_BYTES = 32

/** A plain hash will do: the secret is 256 random bits, which nobody tries out. */
export function hashClientSecret (secret: string): string {
  return hash('sha256', secret, 'base64url')
}

/** Throws for anything but a register that `formatMerchants` could have written with this sealing key. */
export function parseMerchants (text: string, sealingKey: KeyObject): ReadonlyMap<string, Merchant> {
  const reader = new OptionReader(OWNER, JSON.parse(text), ['merchants'])
  const merchants = new Map<string, Merchant>()
  const keyIds = new Set<string>()
  for (const [i] of (reader.list('merchants') ?? []).entries()) {
    const item = reader.nested('merchants', ['id', 'name', 'credentials', 'revokedAt'], i)
    const merchant = readMerchant(item, sealingKey)
    if (merchants.has(merchant.id)) throw item.error('id', 'is listed before')
    merchants.set(merchant.id, merchant)
    for (const { keyId } of merchant.credentials) {
      if (keyIds.has(keyId)) throw item.error('credentials', 'hold a key id that is listed before')
      keyIds.add(keyId)
    }
  }
  return merchants
}

/** JSON for people and for `parseMerchants`; every key is sealed anew. */
export function formatMerchants (merchants: Iterable<Merchant>, sealingKey: KeyObject): string {
  const entries = [...merchants].map(({ id, credentials, ...merchant }) => ({
    id,
    ...merchant,
    credentials: credentials.map(({ keyId, key, clientSecretHash, lifetime }) => ({ keyId, sealedKey: seal(key, sealingKey, [id, keyId]), clientSecretHash, ...lifetime }))
  }))
  return `${JSON.stringify({ merchants: entries }, undefined, 2)}\n`
}

function readMerchant (reader: OptionReader, sealingKey: KeyObject): Merchant {
  const id = reader.requiredText('id')
  if (!/^[1-9]\d*$/.test(id) || !Number.isSafeInteger(Number(id))) throw reader.error('id', 'must be a whole number as text')
  const given = reader.list('credentials')
  if (given === undefined || given.length > MAX_CREDENTIALS) throw reader.error('credentials', `must hold 1 to ${MAX_CREDENTIALS} credentials`)
  const credentials = given.map((_credential, i) => readCredential(reader.nested('credentials', ['keyId', 'sealedKey', 'clientSecretHash', 'notBefore', 'notAfter'], i), id, sealingKey))
  const revokedAt = readMoment(reader, 'revokedAt')
  return Object.freeze({ id, name: reader.requiredText('name'), credentials: Object.freeze(credentials), ...(revokedAt !== undefined && { revokedAt }) })
}

function readCredential (reader: OptionReader, merchantId: string, sealingKey: KeyObject): MerchantCredential {
  const [keyId, sealed, clientSecretHash] = [reader.requiredText('keyId'), reader.requiredText('sealedKey'), reader.requiredText('clientSecretHash')]
  if (!/^[\w-]{43}$/.test(clientSecretHash)) throw reader.error('clientSecretHash', 'must be a SHA-256 hash in base64url')
  const [notBefore, notAfter] = [readMoment(reader, 'notBefore'), readMoment(reader, 'notAfter')]
  const lifetime = Object.freeze({ ...(notBefore !== undefined && { notBefore }), ...(notAfter !== undefined && { notAfter }) })
  try {
    return Object.freeze({ keyId, key: unseal(sealed, sealingKey, { owner: [merchantId, keyId], minimumBytes: KEY_BYTES }), clientSecretHash, lifetime })
  } catch (error) {
    throw reader.error('sealedKey', (error as Error).message)
  }
}
