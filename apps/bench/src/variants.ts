/** What is measured: one route each, and the headers that its requests carry. Configured alike, as far as the peers can be. */

import { createSecretKey, randomBytes } from 'node:crypto'
import fastifyJwt from '@fastify/jwt'
import { bearerJwt, createTokenMinter, createTokenService, type BearerJwtOptions } from '@sallyport/bearer-jwt'
import { memoryStore } from '@sallyport/guard'
import { buildAddressSet, ipAllowlist } from '@sallyport/ip-allowlist'
import { hashAccessToken, legacyHeaders } from '@sallyport/legacy-headers'
import type { FastifyInstance } from 'fastify'
import { jwtVerify } from 'jose'

export type Headers = Readonly<Record<string, string>>
/** Puts `GET /` on the app and gives the headers that it takes. */
export type Variant = (app: FastifyInstance) => Promise<Headers>

const secret = randomBytes(32)
const tenant = '100001'
const lifetimeSeconds = 3_600
const answer = { ok: true }

async function mintBearer (): Promise<Headers> {
  const mint = await createTokenMinter({ key: secret, lifetimeSeconds, claims: { sub: 'erp', company_id: tenant, scope: 'orders:read orders:write' } })
  return { authorization: `Bearer ${mint()}` }
}

function ours (options: BearerJwtOptions): Variant {
  return async (app) => {
    await app.register(bearerJwt, { tenant: 'company_id', ...options })
    app.get('/', { onRequest: app.bearerJwt }, () => answer)
    return mintBearer()
  }
}

function theirs (options: Parameters<typeof fastifyJwt>[1]): Variant {
  return async (app) => {
    await app.register(fastifyJwt, options)
    app.get('/', { onRequest: async (request) => { await request.jwtVerify() } }, () => answer)
    return mintBearer()
  }
}

const bare: Variant = async (app) => {
  app.get('/', () => answer)
  return {}
}

const encrypted: Variant = async (app) => {
  const shared = randomBytes(32)
  const service = await createTokenService({
    issuer: 'https://bench.example',
    audience: 'bench',
    signing: { key: secret, id: 'sign' },
    encryption: { key: shared, algorithm: 'dir', contentEncryption: 'A256GCM', id: 'seal' },
    decryption: { mode: 'required', keys: [{ key: shared, algorithm: 'dir', id: 'seal' }], keyManagement: ['dir'], contentEncryption: ['A256GCM'] },
    store: memoryStore({ maxEntries: 1_000 })
  })
  await app.register(bearerJwt, { tenant: 'tenant', ...service.verification })
  app.get('/', { onRequest: app.bearerJwt }, () => answer)
  const { token } = await service.issue({ subject: 'erp', tenant, scopes: ['orders:read'], lifetimeSeconds })
  return { authorization: `Bearer ${token}` }
}

const jose: Variant = async (app) => {
  const key = createSecretKey(secret)
  app.get('/', {
    async onRequest (request) {
      await jwtVerify(request.headers.authorization!.slice(7), key, { algorithms: ['HS256'] })
    }
  }, () => answer)
  return mintBearer()
}

const legacy: Variant = async (app) => {
  await app.register(legacyHeaders, { credentials: [{ tenant, tokens: [{ digest: hashAccessToken('b7c8a0f1e2d3948576') }] }] })
  app.get('/', { onRequest: app.legacyHeaders }, () => answer)
  return { company_id: tenant, access_token: 'b7c8a0f1e2d3948576' }
}

const addresses: Variant = async (app) => {
  const entries = Array.from({ length: 1_000_000 }, (_, i) => i % 2 === 0
    ? `10.${i >>> 16 & 255}.${i >>> 8 & 255}.${i & 255}`
    : `2001:db8:${(i >>> 16).toString(16)}:${(i & 0xffff).toString(16)}::/64`)
  await app.register(ipAllowlist, { allow: await buildAddressSet([...entries, '127.0.0.1']) })
  app.get('/', { onRequest: app.ipAllowlist }, () => answer)
  return {}
}

/** By name, in the order of the table. `bare, again` is the control. */
export const variants: Readonly<Record<string, Variant>> = {
  'bare': bare,
  'bare, again': bare,
  'bearer-jwt, hot': ours({ keys: [{ key: secret }] }),
  'bearer-jwt, hot, encrypted': encrypted,
  'bearer-jwt, first seen, static secret': ours({ keys: [{ key: secret }], cacheEntries: 0 }),
  'bearer-jwt, first seen, secret per tenant': ours({ keys: ({ tenant: named }) => named === tenant ? { key: secret } : undefined, algorithms: ['HS256'], cacheEntries: 0 }),
  '@fastify/jwt, static secret': theirs({ secret, verify: { algorithms: ['HS256'] } }),
  '@fastify/jwt, its cache': theirs({ secret, verify: { algorithms: ['HS256'], cache: true } }),
  '@fastify/jwt, secret from a function': theirs({ secret: (_request: unknown, _token: unknown, done: (error: Error | null, key: Buffer) => void) => { done(null, secret) }, verify: { algorithms: ['HS256'] } }),
  'jose': jose,
  'legacy-headers': legacy,
  'ip-allowlist, a million entries': addresses
}

/** Shares of a bare route's requests per second that are aimed at, and peers that must be slower in the same run. */
export const targets: Readonly<Record<string, { readonly share: number, readonly fasterThan?: string }>> = {
  'bearer-jwt, hot': { share: 0.85 },
  'bearer-jwt, hot, encrypted': { share: 0.85 },
  'bearer-jwt, first seen, static secret': { share: 0.38, fasterThan: '@fastify/jwt, static secret' },
  'bearer-jwt, first seen, secret per tenant': { share: 0.28, fasterThan: '@fastify/jwt, secret from a function' },
  'legacy-headers': { share: 0.8 },
  'ip-allowlist, a million entries': { share: 0.93 }
}
