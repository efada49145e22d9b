/** The fulfilment API (MasonHub): encrypted bearer tokens, bound to an account and to an environment. */

import rateLimit from '@fastify/rate-limit'
import type { FastifyInstance } from 'fastify'
import { bearerJwt, type BearerJwtGuard } from '@sallyport/bearer-jwt'
import { guardOf, open, type StateStore } from '@sallyport/guard'
import {
  ACCOUNT_CLAIM, createAccountTokens, environments, fulfilmentScopes, type AccountTokens, type FulfilmentEnvironment
} from './account-tokens.js'
import type { Account, Accounts } from './accounts.js'
import { fulfilmentErrors } from './authentication-errors.js'
import type { Database } from './database.js'
import type { KeyRings } from './key-rings.js'
import { createOrders, newOrderSchema, type NewOrder } from './orders.js'
import { problem, rateLimited } from './refusals.js'
import { MAX_LIVE_TOKENS } from './ring-tokens.js'
import { objectOf } from './schemas.js'

export interface FulfilmentOptions {
  readonly accounts: Accounts
  readonly keyRings: KeyRings
  readonly database: Database
  readonly store: StateStore
  readonly clock?: (() => number) | undefined
}

/** Requests a minute of one account, in one process. */
export const requestsPerMinute: Readonly<Record<FulfilmentEnvironment, number>> = { production: 120, sandbox: 600 }
/** Of one address, whatever it presents: several accounts may call from one. */
const ADDRESS_FACTOR = 3

const newSecret = {
  body: objectOf(['secret_phrase'], {
    secret_phrase: { type: 'string', minLength: 12, maxLength: 1000 },
    use: { type: 'string', enum: ['bearer', 'callback'] },
    scopes: { type: 'array', items: { type: 'string', enum: fulfilmentScopes }, uniqueItems: true, minItems: 1 }
  })
}

interface NewSecret {
  readonly secret_phrase: string
  readonly use?: 'bearer' | 'callback'
  readonly scopes?: readonly string[]
}

/** Registers the system: one scope for each environment, told apart by the host, and the table of what is refused. */
export async function fulfilment (scope: FastifyInstance, options: FulfilmentOptions): Promise<void> {
  scope.get('/authentication-errors', { onRequest: open('help for integrators') }, async () => ({ errors: fulfilmentErrors }))
  for (const environment of environments) {
    await scope.register(async (own) => { await serveEnvironment(own, environment, options) }, { prefix: `/:${ACCOUNT_CLAIM}/api/v1` })
  }
}

async function serveEnvironment (scope: FastifyInstance, environment: FulfilmentEnvironment, options: FulfilmentOptions): Promise<void> {
  const { accounts, database } = options
  const tokens = createAccountTokens(environment, options)
  scope.addHook('onClose', tokens.close)
  const name = `${environment}Jwt`
  await scope.register(bearerJwt, { as: name, ...tokens.verification, tenant: ACCOUNT_CLAIM, subject: 'sub', requiredClaims: ['jti', 'iat'] })
  await scope.register(rateLimit, { global: false })
  const guard = guardOf<BearerJwtGuard>(scope, name)
  const max = requestsPerMinute[environment]
  const byAddress = rateLimited(scope, { max: max * ADDRESS_FACTOR })
  const byAccount = rateLimited(scope, { max, keyOf: ({ auth }) => auth.principal.tenant! })
  const mayUse = (scopeName: typeof fulfilmentScopes[number]) => ({
    onRequest: [byAddress, guard.require({ scopes: [scopeName], tenantParam: ACCOUNT_CLAIM }), byAccount],
    // Every host but those of the sandbox is production: a name that nobody thought of gets the strict side.
    ...(environment === 'sandbox' && { constraints: { host: /^sandbox\./i } })
  })
  const orders = createOrders(database, environment)

  scope.get('/orders', mayUse('orders:read'), async ({ auth }) => ({ environment, orders: await orders.list(auth.principal.tenant!) }))

  scope.post<{ Body: NewOrder }>('/orders', { ...mayUse('orders:write'), schema: { body: newOrderSchema } }, async ({ auth, body }, reply) => {
    const order = await orders.add(accountOf(accounts, auth.principal.tenant!), body)
    if (order === undefined) throw problem(409, 'ERR_FULFILMENT_ORDER_EXISTS', 'The account has an order of this number')
    return reply.code(201).send(order)
  })

  scope.post<{ Body: NewSecret }>('/secrets', { ...mayUse('secrets:write'), schema: newSecret }, async ({ auth, body }, reply) => {
    const { tenant = '', scopes: own } = auth.principal
    const { use = 'bearer', secret_phrase: phrase } = body
    const scopes = use === 'callback' ? [] : body.scopes ?? own
    if (!scopes.every((wanted) => own.includes(wanted))) throw problem(403, 'ERR_FULFILMENT_SCOPE_EXCEEDED', 'A token can\'t give away scopes that it does not have')
    if ((await tokens.list(tenant)).length >= MAX_LIVE_TOKENS) throw problem(409, 'ERR_FULFILMENT_SECRETS_FULL', `An account can have ${MAX_LIVE_TOKENS} tokens at a time`)
    const { id, token, expiresAt } = await tokens.issue({ slug: tenant, scopes, use, phrase, purpose: use })
    return reply.code(201).send({ id, token, use, environment, scopes, expires_at: expiresAt })
  })

  scope.get('/secrets', mayUse('secrets:write'), async ({ auth }) => {
    const records = await tokens.list(auth.principal.tenant!)
    return {
      environment,
      secrets: records.map(({ id, purpose: use, scopes, createdAt, expiresAt, lastUsedAt = null, revoked }) => ({
        id, use, scopes, created_at: createdAt, expires_at: expiresAt, last_used_at: lastUsedAt, revoked
      }))
    }
  })

  scope.delete<{ Params: { id: string } }>('/secrets/:id', mayUse('secrets:write'), async ({ auth, params: { id } }, reply) => {
    if (!await isOwn(tokens, auth.principal.tenant!, id)) throw problem(404, 'ERR_FULFILMENT_SECRET_UNKNOWN', 'The account has no such token')
    await tokens.revoke(id)
    return reply.code(204).send()
  })
}

function accountOf (accounts: Accounts, slug: string): Account {
  const account = accounts.find(slug)
  // The guard refuses tokens of unknown accounts; this one went while the request was under way.
  if (account === undefined) throw problem(403, 'ERR_FULFILMENT_ACCOUNT_GONE', 'The account is no more')
  return account
}

async function isOwn (tokens: AccountTokens, slug: string, id: string): Promise<boolean> {
  return (await tokens.list(slug)).some((record) => record.id === id)
}
