/**
 * The one place where keys become what @fastify/jwt takes. Each instance is private: in the user's own app it would collide
 * with the @fastify/jwt registered there.
 */

import { createPublicKey, randomBytes, type KeyObject } from 'node:crypto'
import fastifyJwt, { type JWT } from '@fastify/jwt'
import Fastify from 'fastify'
import type { Algorithm } from './keys.js'

/** A key and the one algorithm that it serves. */
export interface LibraryKey { readonly key: KeyObject, readonly algorithm: Algorithm }

/** True if the signature of a compact JWS is right; false for every other answer that the library may give. */
export type LibraryCheck = (token: string) => boolean

// Claims are judged by our own code, once the signature is right.
const signatureOnly = { ignoreExpiration: true, ignoreNotBefore: true }

async function openJwt (options: { secret: Buffer | { public: string, private?: string } }, algorithm: Algorithm): Promise<JWT> {
  const app = Fastify({ logger: false })
  await app.register(fastifyJwt, { ...options, sign: { algorithm }, verify: { algorithms: [algorithm], ...signatureOnly } })
  await app.ready()
  return app.jwt
}

/** A check for one public key, compiled once. */
export async function createLibraryCheck ({ key, algorithm }: LibraryKey): Promise<LibraryCheck> {
  const jwt = await openJwt({ secret: { public: pem(key).toString() } }, algorithm)
  return (token) => isVerified(jwt, token)
}

/** Makes checks for public keys that come while requests wait: at once, but the library prepares the key for each token anew. */
export async function openLibrary (): Promise<(key: LibraryKey) => LibraryCheck> {
  const jwt = await openJwt({ secret: randomBytes(64) }, 'HS256')
  return ({ key, algorithm }) => {
    const options = { key: pem(key), algorithms: [algorithm], ...signatureOnly }
    return (token) => isVerified(jwt, token, options)
  }
}

function isVerified (jwt: JWT, token: string, options?: object): boolean {
  try {
    jwt.verify(token, options)
    return true
  } catch {
    return false
  }
}

/** Signs claims as they are: nothing is added to them. */
export async function createSignature ({ key, algorithm }: LibraryKey, keyId: string | undefined): Promise<(claims: object, typ?: string) => string> {
  const jwt = await openJwt({ secret: key.type === 'secret' ? key.export() : keyPair(key) }, algorithm)
  return (claims, typ = 'JWT') => {
    const header = { alg: algorithm, typ, ...(keyId !== undefined && { kid: keyId }) }
    // With `noTimestamp` the library takes away an `iat` that is there; without it, it adds one that is not.
    return jwt.sign(claims, { header, noTimestamp: (claims as { iat?: unknown }).iat === undefined })
  }
}

function keyPair (key: KeyObject): { private: string, public: string } {
  return {
    private: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    public: pem(createPublicKey(key)).toString()
  }
}

function pem (key: KeyObject): Buffer {
  return Buffer.from(key.export({ type: 'spki', format: 'pem' }))
}
