import { memoryStore } from '@sallyport/guard'
import { contractSuite, type Sample } from '@sallyport/test-kit'
import type { InjectOptions } from 'fastify'
import t from 'tap'
import * as packageExports from '../src/index.js'
import type { BearerJwtOptions, BearerJwtRefusalCode } from '../src/index.js'
import { validOptions } from './fixtures/app.js'
import { claims, hmacToken, NOW, otherSecret, secret } from './fixtures/tokens.js'

const bearer = (token: string): InjectOptions => ({ headers: { authorization: `Bearer ${token}` } })
const right = bearer(hmacToken({ ...claims, nbf: NOW, jti: 'one', secret: 'canary-claim-0123456789' }))
const rejected = { status: 401, challenge: 'error="invalid_token"' }

/** What `refresh()` of a token service throws; no guard does. */
const unreachable = {
  ERR_BEARER_JWT_REFRESH_INVALID: 'thrown by refresh() of a token service, which judges no request',
  ERR_BEARER_JWT_REFRESH_REUSED: 'thrown by refresh() of a token service, which judges no request'
}

const samples: Record<Exclude<BearerJwtRefusalCode, keyof typeof unreachable>, Sample<BearerJwtOptions<unknown>> | readonly Sample<BearerJwtOptions<unknown>>[]> = {
  ERR_BEARER_JWT_TOKEN_MISSING: { request: {}, status: 401, challenge: 'Bearer realm="api"' },
  ERR_BEARER_JWT_TOKEN_INVALID: [{ request: bearer(hmacToken(claims, otherSecret)), ...rejected }, { request: bearer('nonsense'), ...rejected }],
  ERR_BEARER_JWT_TOKEN_AMBIGUOUS: {
    request: { headers: { ...right.headers, cookie: `jwt=${hmacToken(claims)}` } },
    options: { source: [{ header: 'authorization', scheme: 'Bearer' }, { cookie: 'jwt' }] },
    ...rejected
  },
  ERR_BEARER_JWT_TOKEN_EXPIRED: [{ request: bearer(hmacToken({ exp: NOW })), ...rejected }, { request: bearer(hmacToken({ nbf: NOW + 2, exp: NOW + 9 })), ...rejected }],
  ERR_BEARER_JWT_CLAIMS_INVALID: [{ request: bearer(hmacToken({})), ...rejected }, { request: right, options: { audience: 'others' }, ...rejected }],
  ERR_BEARER_JWT_TOKEN_REUSED: {
    request: right,
    policy: (guard) => guard.require({ singleUse: true }),
    before: ({ app }) => app.inject({ url: '/contract', ...right }),
    ...rejected
  },
  ERR_BEARER_JWT_TOKEN_REVOKED: { request: right, options: { revocations: { isRevoked: ({ id }) => id === 'one' } }, ...rejected },
  ERR_BEARER_JWT_SCOPE_INSUFFICIENT: { request: right, policy: (guard) => guard.require({ scopes: ['orders:read'] }), status: 403, challenge: 'error="insufficient_scope", scope="orders:read"' },
  ERR_BEARER_JWT_KEYS_UNAVAILABLE: [
    { request: right, options: { keys: () => { throw new Error('down') }, algorithms: ['HS256'] }, status: 503, challenge: false },
    { request: right, options: { keys: async () => ({ key: Buffer.from('canary-short-key') }), algorithms: ['HS256'] }, status: 503, challenge: false }
  ],
  ERR_BEARER_JWT_STATE_UNAVAILABLE: [
    { request: right, options: { revocations: { isRevoked: async () => { throw new Error('down') } } }, status: 503, challenge: false },
    { request: right, options: { store: memoryStore({ clock: () => (NOW + 1) * 1000 }) }, policy: (guard) => guard.require({ singleUse: true }), status: 503, challenge: false }
  ]
}

await contractSuite<BearerJwtOptions<unknown>>(t, {
  plugin: packageExports.bearerJwt,
  name: 'bearerJwt',
  packageExports,
  options: () => ({ ...validOptions(), keys: [{ key: Buffer.from(secret), id: 'live' }], store: memoryStore({ clock: () => NOW * 1000 }) }),
  accepted: right,
  samples,
  unreachable,
  refusals: packageExports.bearerJwtRefusals,
  secrets: [String(secret), String(otherSecret), 'canary-claim-0123456789', 'canary-short-key']
})
