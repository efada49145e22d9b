/** Bearer tokens: ours, `@fastify/jwt`, `jose` and Hono, configured alike as far as they can be; and the old plaintext headers. */

import { createSecretKey, hash, type KeyObject } from 'node:crypto'
import fastifyJwt from '@fastify/jwt'
import { getRequestListener } from '@hono/node-server'
import { bearerJwt, createTokenMinter, createTokenService, type BearerJwtOptions, type TokenService } from '@sallyport/bearer-jwt'
import { memoryStore } from '@sallyport/guard'
import { hashAccessToken, legacyHeaders } from '@sallyport/legacy-headers'
import { Hono } from 'hono'
import { jwt as honoJwt } from 'hono/jwt'
import { compactDecrypt, jwtVerify } from 'jose'
import { answer, fastify, get, host, repeated, secret, tenant, type Variant } from './variant.js'

const lifetimeSeconds = 3_600
const sealingKey = Buffer.from('the second secret of this bench.')
const accessToken = 'b7c8a0f1e2d3948576'

/** Tokens that differ in their `jti`. Whoever repeats the first has a hot token. */
const bearer: Variant['requests'] = async () => {
  const mint = await createTokenMinter({ key: secret, lifetimeSeconds, claims: { sub: 'erp', company_id: tenant, scope: 'orders:read orders:write' } })
  let made = 0
  return () => ({ ...get, headers: { host, authorization: `Bearer ${mint({ jti: `${process.pid}-${++made}` })}` } })
}

const encryptedBearer: Variant['requests'] = async () => {
  const service = await tokenService()
  return async () => {
    const { token } = await service.issue({ subject: 'erp', tenant, scopes: ['orders:read'], lifetimeSeconds })
    return { ...get, headers: { host, authorization: `Bearer ${token}` } }
  }
}

function tokenService (): Promise<TokenService> {
  return createTokenService({
    issuer: 'https://bench.example',
    audience: 'bench',
    signing: { key: secret, id: 'sign' },
    encryption: { key: sealingKey, algorithm: 'dir', contentEncryption: 'A256GCM', id: 'seal' },
    decryption: { mode: 'required', keys: [{ key: sealingKey, algorithm: 'dir', id: 'seal' }], keyManagement: ['dir'], contentEncryption: ['A256GCM'] },
    store: memoryStore({ maxEntries: 1_000 })
  })
}

function ours (options: BearerJwtOptions): Pick<Variant, 'base' | 'serve' | 'requests'> {
  const serve = fastify(async (app) => {
    await app.register(bearerJwt, { tenant: 'company_id', ...options })
    app.get('/', { onRequest: app.bearerJwt }, () => answer)
  })
  return { base: 'bare', serve, requests: bearer }
}

function theirs (options: Parameters<typeof fastifyJwt>[1]): Pick<Variant, 'base' | 'serve' | 'requests'> {
  const serve = fastify(async (app) => {
    await app.register(fastifyJwt, options)
    app.get('/', { onRequest: async (request) => { await request.jwtVerify() } }, () => answer)
  })
  return { base: 'bare', serve, requests: bearer }
}

/** A hook as one would write it around `jose`. */
function jose (verify: (token: string, key: KeyObject) => Promise<unknown>): Variant['serve'] {
  return fastify((app) => {
    const key = createSecretKey(secret)
    app.get('/', { onRequest: async ({ headers }) => { await verify(headers.authorization!.slice(7), key) } }, () => answer)
  })
}

/** The least that a hook can do which knows tokens by their hash: what it costs here, no guard can undercut. */
function hashing (requests: Variant['requests']): Variant {
  const known = new Map<string, object>()
  const serve = fastify((app) => {
    app.get('/', {
      onRequest ({ headers }, _reply, done) {
        const digest = hash('sha256', headers.authorization!.slice(7), 'binary')
        if (!known.has(digest)) known.set(digest, {})
        done()
      }
    }, () => answer)
  })
  return { base: 'bare', requests, serve }
}

function hono (prepare: (app: Hono) => void): Variant['serve'] {
  return async () => {
    const app = new Hono()
    prepare(app)
    app.get('/', (context) => context.json(answer))
    const listener = getRequestListener(app.fetch)
    return (request, response) => { void listener(request, response) }
  }
}

const bareHono: Variant = { base: 'hono, bare', serve: hono(() => undefined), requests: repeated(get) }

export const tokenVariants: Readonly<Record<string, Variant>> = {
  'bearer-jwt, hot': { ...ours({ keys: [{ key: secret }] }), target: { share: 0.85 } },
  'bearer-jwt, hot, encrypted': {
    base: 'bare',
    requests: encryptedBearer,
    serve: fastify(async (app) => {
      const { verification } = await tokenService()
      await app.register(bearerJwt, { tenant: 'tenant', ...verification })
      app.get('/', { onRequest: app.bearerJwt }, () => answer)
    }),
    target: { share: 0.85 }
  },
  'a hook that hashes the token': hashing(bearer),
  'a hook that hashes the encrypted token': hashing(encryptedBearer),
  'bearer-jwt, first seen, static secret': {
    ...ours({ keys: [{ key: secret }] }),
    isFresh: true,
    target: { share: 0.38, fasterThan: '@fastify/jwt, static secret' }
  },
  'bearer-jwt, first seen, secret per tenant': {
    ...ours({ keys: ({ tenant: named }) => named === tenant ? { key: secret } : undefined, algorithms: ['HS256'] }),
    isFresh: true,
    target: { share: 0.28, fasterThan: '@fastify/jwt, secret from a function' }
  },
  '@fastify/jwt, static secret': { ...theirs({ secret, verify: { algorithms: ['HS256'] } }), isFresh: true },
  '@fastify/jwt, its cache, hot': theirs({ secret, verify: { algorithms: ['HS256'], cache: true } }),
  '@fastify/jwt, secret from a function': {
    ...theirs({ secret: (_request: unknown, _token: unknown, done: (error: Error | null, key: Buffer) => void) => { done(null, secret) }, verify: { algorithms: ['HS256'] } }),
    isFresh: true
  },
  'jose, signed': { base: 'bare', requests: bearer, isFresh: true, serve: jose((token, key) => jwtVerify(token, key, { algorithms: ['HS256'] })) },
  'jose, encrypted and signed': {
    base: 'bare',
    requests: encryptedBearer,
    serve: jose(async (token, key) => {
      const { plaintext } = await compactDecrypt(token, sealingKey, { keyManagementAlgorithms: ['dir'], contentEncryptionAlgorithms: ['A256GCM'] })
      await jwtVerify(plaintext, key, { algorithms: ['HS256'] })
    })
  },
  'hono, bare': bareHono,
  'hono, bare, again': bareHono,
  'hono, its jwt middleware': { base: 'hono, bare', requests: bearer, isFresh: true, serve: hono((app) => { app.use(honoJwt({ secret: secret.toString(), alg: 'HS256' })) }) },
  'legacy-headers': {
    base: 'bare',
    requests: repeated(get, { company_id: tenant, access_token: accessToken }),
    serve: fastify(async (app) => {
      await app.register(legacyHeaders, { credentials: [{ tenant, tokens: [{ digest: hashAccessToken(accessToken) }] }] })
      app.get('/', { onRequest: app.legacyHeaders }, () => answer)
    }),
    target: { share: 0.8 }
  }
}
