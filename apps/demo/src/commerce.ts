/** The commerce API (HotWax): login, users with permissions, named tokens for integrations, and the inventory that they update. */

import { bearerJwt, type IssuedToken } from '@sallyport/bearer-jwt'
import { challenge, open, type StateStore } from '@sallyport/guard'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { loginSchema, newTokenSchema, newUserSchema, ofUserSchema, stockSchema } from './commerce-schemas.js'
import type { Database } from './database.js'
import { createInventory, type Stock } from './inventory.js'
import type { KeyRings } from './key-rings.js'
import { createLoginThrottle } from './login-throttle.js'
import { problem } from './refusals.js'
import { createRingTokens, MAX_LIVE_TOKENS } from './ring-tokens.js'
import { createUsers, type NewUser, type User } from './users.js'

export interface CommerceOptions {
  readonly keyRings: KeyRings
  readonly database: Database
  readonly store: StateStore
  readonly clock?: (() => number) | undefined
}

const SESSION_SECONDS = 900
const REALM = 'sallyport-demo'

interface OfUser { readonly user?: string }
interface NewToken extends OfUser { readonly purpose: string, readonly validitySeconds: number }

/** Registers the guard of this system and its routes; to be used in a scope of its own. */
export async function commerce (scope: FastifyInstance, { keyRings, database, store, clock = Date.now }: CommerceOptions): Promise<void> {
  const tokens = createRingTokens({ ring: () => keyRings.of('commerce'), issuer: 'urn:sallyport:commerce', audience: 'urn:sallyport:commerce', store, clock })
  scope.addHook('onClose', tokens.close)
  const [users, inventory, throttle] = [createUsers(database), createInventory(database), createLoginThrottle(store, clock)]
  await scope.register(bearerJwt, { ...tokens.verification, subject: 'sub', requiredClaims: ['jti', 'iat', 'name'] })
  const mayUse = (...scopes: readonly string[]) => ({ onRequest: scope.bearerJwt.require({ scopes: { any: scopes } }) })

  scope.post<{ Body: { name: string, password: string } }>('/login', { onRequest: open('name and password are the credential', { requireHttps: true }), schema: loginSchema }, async ({ body, ip }, reply) => {
    const { name, password } = body
    const entry = await throttle.enter({ user: name, address: ip })
    if ('retryAfterSeconds' in entry) {
      reply.header('retry-after', entry.retryAfterSeconds)
      throw problem(429, 'ERR_COMMERCE_LOGIN_THROTTLED', 'Too many logins failed; come again later')
    }
    const user = await users.authenticate({ name, password }).catch(async (error: unknown) => {
      await entry.leave()
      throw error
    })
    if (user === undefined) {
      reply.header('www-authenticate', challenge('Login', { realm: REALM }))
      throw problem(401, 'ERR_COMMERCE_LOGIN_FAILED', 'There is no user of this name and password')
    }
    await entry.leave()
    const { token, expiresAt } = await issue(user, { purpose: 'login', validitySeconds: SESSION_SECONDS })
    return { token, tokenType: 'Bearer', expiresAt, permissions: user.permissions }
  })

  scope.post<{ Body: NewUser }>('/users', { ...mayUse('users:write'), schema: newUserSchema }, async ({ body, auth }, reply) => {
    const missing = body.permissions.some((permission) => !auth.principal.scopes.includes(permission))
    if (missing) throw problem(403, 'ERR_COMMERCE_PERMISSION_EXCEEDED', 'A user can\'t be given permissions that you do not have')
    const user = await users.add(body)
    if (user === undefined) throw problem(409, 'ERR_COMMERCE_USER_EXISTS', 'There is, or was, a user of this name')
    return reply.code(201).send(user)
  })

  scope.delete<{ Params: { name: string } }>('/users/:name', mayUse('users:write'), async ({ auth, params: { name } }, reply) => {
    const user = await users.find(name)
    if (user?.id === auth.principal.subject) throw problem(409, 'ERR_COMMERCE_USER_SELF', 'Nobody removes themselves: somebody has to be left')
    // First the user: from here on no token is issued that the list would miss.
    if (user === undefined || !await users.disable(user.id)) throw problem(404, 'ERR_COMMERCE_USER_UNKNOWN', 'There is no user of this name')
    for (const { id } of await tokens.list(user.id)) await tokens.revoke(id)
    return reply.code(204).send()
  })

  scope.post<{ Body: NewToken }>('/tokens', { ...mayUse('tokens:write', 'users:write'), schema: newTokenSchema }, async (request, reply) => {
    const { purpose, validitySeconds } = request.body
    const user = await subjectOf(request, request.body.user)
    const exceeded = user.permissions.some((permission) => !request.auth.principal.scopes.includes(permission))
    if (exceeded) throw problem(403, 'ERR_COMMERCE_PERMISSION_EXCEEDED', 'A token can\'t have permissions that you do not have')
    const { id, token, expiresAt } = await issue(user, { purpose, validitySeconds })
    return reply.code(201).send({ id, token, user: user.name, purpose, expiresAt, permissions: user.permissions })
  })

  scope.get<{ Querystring: OfUser }>('/tokens', { ...mayUse('tokens:write', 'users:write'), schema: ofUserSchema }, async (request) => {
    const user = await subjectOf(request, request.query.user)
    const records = await tokens.list(user.id)
    return { user: user.name, tokens: records.map(({ id, purpose, createdAt, expiresAt, lastUsedAt = null, revoked }) => ({ id, purpose, createdAt, expiresAt, lastUsedAt, revoked })) }
  })

  scope.delete<{ Params: { id: string }, Querystring: OfUser }>('/tokens/:id', { ...mayUse('tokens:write', 'users:write'), schema: ofUserSchema }, async (request, reply) => {
    const user = await subjectOf(request, request.query.user)
    const isListed = (await tokens.list(user.id)).some(({ id }) => id === request.params.id)
    if (!isListed) throw problem(404, 'ERR_COMMERCE_TOKEN_UNKNOWN', 'The user has no such token')
    await tokens.revoke(request.params.id)
    return reply.code(204).send()
  })

  scope.get('/inventory', mayUse('inventory:read', 'inventory:write'), async () => ({ inventory: await inventory.list() }))

  scope.post<{ Body: Stock | readonly Stock[] }>('/updateInventory', { ...mayUse('inventory:write'), schema: stockSchema }, async ({ body }) => {
    const stock = [body].flat()
    const places = new Set(stock.map(({ productId, facilityId }) => JSON.stringify([productId, facilityId])))
    if (places.size < stock.length) throw problem(400, 'ERR_COMMERCE_STOCK_REPEATED', 'A product stands twice for one facility')
    return { inventory: await inventory.set(stock) }
  })

  async function issue ({ id, name, permissions }: User, { purpose, validitySeconds }: Pick<NewToken, 'purpose' | 'validitySeconds'>): Promise<IssuedToken> {
    if ((await tokens.list(id)).length >= MAX_LIVE_TOKENS) throw problem(409, 'ERR_COMMERCE_TOKENS_FULL', `A user can have ${MAX_LIVE_TOKENS} tokens at a time`)
    const issued = await tokens.issue({ subject: id, scopes: permissions, purpose, lifetimeSeconds: validitySeconds, claims: { name } })
    // Whoever removed the user meanwhile has ended the tokens that were listed then.
    if (await users.findById(id) !== undefined) return issued
    await tokens.revoke(issued.id)
    throw problem(403, 'ERR_COMMERCE_USER_GONE', 'The user is no more')
  }

  /** Whose tokens are meant: one's own, unless an administrator names another user. */
  async function subjectOf ({ auth: { principal } }: FastifyRequest, name: string | undefined): Promise<User> {
    const isAdministrator = principal.scopes.includes('users:write')
    const user = name === undefined ? await users.findById(principal.subject!) : await users.find(name)
    if (!isAdministrator && user?.id !== principal.subject) throw problem(403, 'ERR_COMMERCE_USER_FOREIGN', 'Only an administrator deals with the tokens of others')
    if (user === undefined) throw problem(404, 'ERR_COMMERCE_USER_UNKNOWN', 'There is no user of this name')
    return user
  }
}
