/**
 * The one place where keys become what @fastify/jwt takes. Each instance is private: in the user's own app it would collide
 * with the @fastify/jwt registered there.
 */

import { createPublicKey, createSecretKey, randomBytes, type KeyObject } from 'node:crypto'
import fastifyJwt, { type JWT } from '@fastify/jwt'
import Fastify from 'fastify'
import type { Algorithm } from './keys.js'

/** The claims of a compact JWS whose signature is right; `undefined` for every other answer that the library may give. */
export type SignatureCheck = (token: string) => SignedClaims | undefined

export type SignedClaims = Record<string, unknown>

export interface LibraryKey { readonly key: KeyObject, readonly algorithm: Algorithm }

// Claims are judged by our own code, once the signature is right.
const signatureOnly = { ignoreExpiration: true, ignoreNotBefore: true }

async function openJwt (options: { secret: Buffer | { public: string, private?: string } }, algorithm: Algorithm): Promise<JWT> {
  const app = Fastify({ logger: false })
  await app.register(fastifyJwt, { ...options, sign: { algorithm }, verify: { algorithms: [algorithm], ...signatureOnly } })
  await app.ready()
  return app.jwt
}

/** A check for one key, compiled once. */
export async function createSignatureCheck ({ key, algorithm }: LibraryKey): Promise<SignatureCheck> {
  const material = libraryKey(key)
  const jwt = await openJwt({ secret: key.type === 'secret' ? material : { public: material.toString() } }, algorithm)
  return (token) => {
    try {
      return jwt.verify<SignedClaims>(token)
    } catch {
      return undefined
    }
  }
}

const BUSY_USES = 1_000
const MAX_BUSY_KEYS = 100

interface KeyInUse {
  readonly options: object
  /** Tokens that it signed. */
  uses: number
  check: SignatureCheck | undefined
}

/**
 * A check that takes the key with each token, for keys that a resolver or a key set gives. The library then prepares the key for
 * each token anew, so a shared secret in steady use gets a check of its own. A wrong signature takes one check of either
 * kind, so that its time does not tell whether a key is in use, or there at all.
 */
export async function createKeyedCheck (algorithms: readonly Algorithm[]): Promise<(token: string, trusted: LibraryKey) => SignedClaims | undefined> {
  const jwt = await openJwt({ secret: randomBytes(64) }, 'HS256')
  const known = new WeakMap<LibraryKey, KeyInUse>()
  const decoys = new Map<Algorithm, { readonly key: KeyInUse, readonly check: SignatureCheck }>()
  for (const algorithm of algorithms.filter((name) => name.startsWith('HS'))) {
    const key = { key: createSecretKey(randomBytes(64)), algorithm }
    decoys.set(algorithm, { key: inUse(key), check: await createSignatureCheck(key) })
  }
  let busy = 0
  const dropped = new FinalizationRegistry(() => { busy-- })

  function verify (token: string, { options }: KeyInUse): SignedClaims | undefined {
    try {
      return jwt.verify<SignedClaims>(token, options)
    } catch {
      return undefined
    }
  }

  /** For so many keys; when one of those is no longer given, there is room for another. */
  function countUse (trusted: LibraryKey, key: KeyInUse): void {
    if (++key.uses !== BUSY_USES) return
    if (busy >= MAX_BUSY_KEYS) { key.uses = 0; return }
    busy++
    dropped.register(trusted, undefined)
    createSignatureCheck(trusted).then((check) => { key.check = check }, ignore)
  }

  return (token, trusted) => {
    let key = known.get(trusted)
    if (key === undefined) known.set(trusted, key = inUse(trusted))
    const claims = key.check === undefined ? verify(token, key) : key.check(token)
    const decoy = decoys.get(trusted.algorithm)
    if (decoy === undefined) return claims
    if (claims !== undefined) countUse(trusted, key)
    else if (key.check === undefined) decoy.check(token)
    else verify(token, decoy.key)
    return claims
  }
}

function inUse ({ key, algorithm }: LibraryKey): KeyInUse {
  return { options: { key: libraryKey(key), algorithms: [algorithm], ...signatureOnly }, uses: 0, check: undefined }
}

function ignore (): void { /* the other way to check stays */ }

/** Signs claims as they are: nothing is added to them. */
export async function createSignature ({ key, algorithm }: LibraryKey, keyId: string | undefined): Promise<(claims: object, typ?: string) => string> {
  const jwt = await openJwt({ secret: key.type === 'secret' ? libraryKey(key) : keyPair(key) }, algorithm)
  return (claims, typ = 'JWT') => {
    const header = { alg: algorithm, typ, ...(keyId !== undefined && { kid: keyId }) }
    // With `noTimestamp` the library takes away an `iat` that is there; without it, it adds one that is not.
    return jwt.sign(claims, { header, noTimestamp: (claims as { iat?: unknown }).iat === undefined })
  }
}

function keyPair (key: KeyObject): { private: string, public: string } {
  return {
    private: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    public: createPublicKey(key).export({ type: 'spki', format: 'pem' }).toString()
  }
}

/** Secret bytes, or a public key as PEM. */
function libraryKey (key: KeyObject): Buffer {
  return key.type === 'secret' ? key.export() : Buffer.from(key.export({ type: 'spki', format: 'pem' }))
}
