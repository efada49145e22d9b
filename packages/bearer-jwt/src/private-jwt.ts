/**
 * The one place where keys become what @fastify/jwt takes. Each instance is private: in the user's own app it would collide
 * with the @fastify/jwt registered there.
 */

import { createPublicKey, randomBytes, type KeyObject } from 'node:crypto'
import fastifyJwt, { type JWT } from '@fastify/jwt'
import Fastify from 'fastify'
import type { Algorithm } from './keys.js'

/** True if the signature of a compact JWS is right; false for every other answer that the library may give. */
export type SignatureCheck = (token: string) => boolean

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
  return (token) => succeeds(() => jwt.verify(token))
}

/** A check that takes the key with each token, for keys that a resolver gives. */
export async function createKeyedCheck (): Promise<(token: string, trusted: LibraryKey) => boolean> {
  const jwt = await openJwt({ secret: randomBytes(64) }, 'HS256')
  const known = new WeakMap<LibraryKey, object>()
  return (token, trusted) => {
    let options = known.get(trusted)
    if (options === undefined) {
      options = { key: libraryKey(trusted.key), algorithms: [trusted.algorithm], ...signatureOnly }
      known.set(trusted, options)
    }
    return succeeds(() => jwt.verify(token, options))
  }
}

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

function succeeds (verify: () => unknown): boolean {
  try {
    verify()
    return true
  } catch {
    return false
  }
}
