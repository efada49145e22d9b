/** The payments gateway: addresses, signed requests and token pairs, in as many layers as a route needs; and the list of addresses, kept by administrators. */

import rateLimit from '@fastify/rate-limit'
import { bearerJwt, type TokenPair } from '@sallyport/bearer-jwt'
import { allOf, anyOf, challenge, guardOf, isAuthError, open, type StateStore } from '@sallyport/guard'
import { headers, hmacAuth, layeredGateway, type HmacAuthGuard } from '@sallyport/hmac-auth'
import { allowlistRoutes, ipAllowlist, type ListEvent } from '@sallyport/ip-allowlist'
import type { FastifyInstance } from 'fastify'
import { paymentsErrors } from './authentication-errors.js'
import type { Database } from './database.js'
import type { KeyRings } from './key-rings.js'
import { ADMINISTRATOR_SCOPE, createMerchantTokens, MERCHANT_CLAIM, merchantScopes } from './merchant-tokens.js'
import type { Merchants } from './merchants.js'
import { problem, rateLimited } from './refusals.js'
import { objectOf, textOf } from './schemas.js'
import { sqlListStore } from './sql-list-store.js'
import { createTransactions, newTransactionSchema, type NewTransaction } from './transactions.js'

export interface PaymentsOptions {
  readonly merchants: Merchants
  readonly keyRings: KeyRings
  readonly database: Database
  /** Remembers nonces of signatures, used refresh tokens and revocations. */
  readonly store: StateStore
  readonly clock?: (() => number) | undefined
}

/** The list of addresses that merchants call from. */
export const MERCHANTS_LIST = 'merchants'
const ACCESS_SECONDS = 900
/** Logins and refreshes of one address, in one process. */
const LOGINS_PER_MINUTE = 60
/** The embedded database shares this process's time with everything else. */
const STORE_TIMEOUT_MS = 1_000
const REALM = 'sallyport-demo'

const loginSchema = { body: objectOf(['client_id', 'client_secret'], { client_id: textOf(64), client_secret: textOf(200) }) }
const refreshSchema = { body: objectOf(['refresh_token'], { refresh_token: textOf(8_192) }) }

/** Registers the guards of this system and its routes; to be used in a scope of its own. */
export async function payments (scope: FastifyInstance, { merchants, keyRings, database, store, clock = Date.now }: PaymentsOptions): Promise<void> {
  const tokens = createMerchantTokens({ merchants, keyRings, store, clock })
  scope.addHook('onClose', tokens.close)
  const lists = sqlListStore(database)
  const onListEvent = (event: ListEvent): void => { logListEvent(scope, event) }
  const signing = { keys: merchants.findKey, keyCacheSeconds: 0, store, storeTimeoutMs: STORE_TIMEOUT_MS }
  await scope.register(ipAllowlist, { allow: { list: MERCHANTS_LIST }, store: lists, onListEvent })
  await scope.register(bearerJwt, { ...tokens.verification, tenant: MERCHANT_CLAIM, subject: 'sub', requiredClaims: ['jti', 'iat'] })
  await scope.register(hmacAuth, signing)
  await scope.register(hmacAuth, { as: 'gatewayHmac', profile: headers(layeredGateway), ...signing })
  await scope.register(rateLimit, { global: false })

  const isListed = scope.ipAllowlist
  const isSigned = anyOf(guardOf<HmacAuthGuard>(scope, 'gatewayHmac'), scope.hmacAuth)
  const may = (...scopes: readonly [string]) => scope.bearerJwt.require({ scopes })
  const login = { onRequest: [rateLimited(scope, { max: LOGINS_PER_MINUTE }), isListed] }
  const transactions = createTransactions(database)

  scope.get('/authentication-errors', { onRequest: open('help for integrators') }, async () => ({ errors: paymentsErrors }))

  scope.post<{ Body: { client_id: string, client_secret: string } }>('/auth/token', { ...login, schema: loginSchema }, async ({ body }, reply) => {
    const merchant = merchants.authenticate({ clientId: body.client_id, clientSecret: body.client_secret })
    if (merchant === undefined) {
      reply.header('www-authenticate', challenge('Login', { realm: REALM }))
      throw problem(401, 'ERR_PAYMENTS_LOGIN_FAILED', 'There is no merchant of this id and secret')
    }
    return answerOf(await tokens.issuePair({ subject: merchant.id, tenant: merchant.id, scopes: merchantScopes, purpose: 'login', lifetimeSeconds: ACCESS_SECONDS }))
  })

  scope.post<{ Body: { refresh_token: string } }>('/auth/refresh', { ...login, schema: refreshSchema }, async ({ body }, reply) => {
    return answerOf(await tokens.refresh(body.refresh_token).catch((error: unknown) => {
      if (isAuthError(error) && error.outcome === 'rejected') reply.header('www-authenticate', challenge('Bearer', { realm: REALM, error: 'invalid_token' }))
      throw error
    }))
  })

  scope.get('/v3.0/transactions', { onRequest: allOf(isListed, may('transactions:read')) }, async ({ auth }) => {
    return { transactions: await transactions.list(auth.principal.tenant!) }
  })

  scope.post<{ Body: NewTransaction }>('/v3.0/transactions', {
    onRequest: allOf(isListed, isSigned, may('transactions:write')),
    schema: { body: newTransactionSchema }
  }, async ({ auth, body }, reply) => {
    const transaction = await transactions.add(auth.principal.tenant!, body)
    if (transaction === undefined) throw problem(409, 'ERR_PAYMENTS_TRANSACTION_EXISTS', 'The merchant has a transaction of this reference')
    return reply.code(201).send(transaction)
  })

  await scope.register(allowlistRoutes, { prefix: '/gateway/allowlist', policy: may(ADMINISTRATOR_SCOPE), store: lists, lists: [MERCHANTS_LIST], clock, onListEvent })
}

function answerOf ({ access, refresh }: TokenPair): object {
  return { access_token: access.token, token_type: 'Bearer', expires_in: ACCESS_SECONDS, refresh_token: refresh.token, scope: merchantScopes.join(' ') }
}

/** Changes with who made them. Of failures only the message: what the database threw may carry more. */
function logListEvent ({ log }: FastifyInstance, event: ListEvent): void {
  if (event.kind === 'failed') log.error({ list: event.list, cause: event.cause instanceof Error ? event.cause.message : undefined }, 'a list of addresses can\'t be read')
  else if (event.kind === 'changed') log.warn({ list: event.list, change: event.change }, 'a list of addresses was changed')
  else log.debug({ list: event.list, version: event.version, size: event.size }, 'a list of addresses was read')
}
