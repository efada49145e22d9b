/** Builds the server: what holds for all systems, and one encapsulated scope for each. Listens to nothing by itself. */

import helmet from '@fastify/helmet'
import { guard, open, problemDetails, type Decision, type StateStore } from '@sallyport/guard'
import Fastify, { type FastifyError, type FastifyInstance, type FastifyRequest } from 'fastify'
import type { Accounts } from './accounts.js'
import type { Certificate } from './certificate.js'
import { commerce } from './commerce.js'
import type { Companies } from './companies.js'
import type { Config } from './config.js'
import type { Database } from './database.js'
import { departments } from './departments.js'
import { fulfilment } from './fulfilment.js'
import type { KeyRings } from './key-rings.js'
import type { Merchants } from './merchants.js'
import { payments } from './payments.js'

export interface Dependencies {
  readonly companies: Companies
  readonly accounts: Accounts
  readonly merchants: Merchants
  readonly keyRings: KeyRings
  /** Migrated. The server leaves it open when it closes. */
  readonly database: Database
  /** Remembers one-shot tokens, nonces, used refresh tokens, revocations, and metadata of issued tokens. */
  readonly store: StateStore
  /** Without one the server speaks plain HTTP, and lets pass only what a trusted proxy says came over HTTPS. */
  readonly certificate?: Pick<Certificate, 'cert' | 'key'> | undefined
  /** Milliseconds since the epoch. Default: `Date.now`. */
  readonly clock?: () => number
  /** Where log lines go. Default: the standard output. */
  readonly log?: { readonly write: (line: string) => void }
}

/** What an operator may want to know of a running system. */
type Report = () => object

declare module 'fastify' {
  interface FastifyInstance {
    /** Reports by name; each system adds its own. */
    readonly reports: Map<string, Report>
  }
}

const MAX_BODY_BYTES = 65_536
const REQUEST_TIMEOUT_MS = 30_000

const LONGEST_SEGMENT = 40

/** What logs tell of a request. Clients put tokens into addresses, by mistake: queries and long parts of a path stay out. */
function loggedRequest ({ method, url, host, ip, socket }: FastifyRequest): { readonly [name: string]: unknown } {
  const [path = ''] = url.split('?', 1)
  const parts = path.split('/').map((part) => part.length > LONGEST_SEGMENT ? '[...]' : part)
  return { method, url: parts.join('/') + (path.length < url.length ? '?[...]' : ''), host, remoteAddress: ip, remotePort: socket.remotePort }
}

export async function buildServer (config: Config, dependencies: Dependencies): Promise<FastifyInstance> {
  const { companies, accounts, merchants, keyRings, database, store, certificate, clock, log } = dependencies
  const app: FastifyInstance = Fastify({
    ...(certificate !== undefined && { https: { cert: certificate.cert, key: certificate.key } }),
    ...(config.trustProxy.length > 0 && { trustProxy: [...config.trustProxy] }),
    logger: { level: config.logLevel, serializers: { req: loggedRequest }, ...(log !== undefined && { stream: log }) },
    bodyLimit: MAX_BODY_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    frameworkErrors: (error, request, reply) => { problemDetails(error, request, reply) },
    // A body is taken as it was sent, or refused.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false } }
  })
  app.decorate('reports', new Map<string, Report>())
  app.setErrorHandler((error: FastifyError, request, reply) => {
    if (error.statusCode === 503 && !reply.hasHeader('retry-after')) reply.header('retry-after', 1)
    return problemDetails(error, request, reply)
  })
  app.setNotFoundHandler((request, reply) => problemDetails({ statusCode: 404, code: 'ERR_DEMO_ROUTE_UNKNOWN', message: 'There is nothing here' }, request, reply))
  // A shared cache spares only answers to requests with `Authorization` (RFC 9111 section 3.5); here credentials have headers of their own.
  app.addHook('onRequest', async (_request, reply) => { reply.header('cache-control', 'no-store') })
  // Browsers keep HSTS by host and not by port: told so for localhost, they would refuse every other server that runs there.
  await app.register(helmet, { strictTransportSecurity: certificate === undefined })
  await app.register(guard, {
    audit: 'enforce',
    requireHttps: true,
    realm: 'sallyport-demo',
    onDecision: (decision) => { logDecision(app, decision) },
    ...(clock !== undefined && { clock })
  })

  app.get('/health', { onRequest: open('liveness probe') }, async () => ({ status: 'ok' }))
  await app.register(departments, { prefix: '/departments/v3/core', companies, claimStore: store, legacy: config.legacy })
  await app.register(commerce, { prefix: '/commerce/api', keyRings, database, store, clock })
  await app.register(fulfilment, { prefix: '/fulfilment', accounts, keyRings, database, store, clock })
  await app.register(payments, { prefix: '/payments', merchants, keyRings, database, store, clock })
  return app
}

/** The true reason of a refusal is for the operator alone. Of what lies beneath it only the message: error objects carry commands, and commands passwords. */
function logDecision ({ log }: FastifyInstance, { cause, ...decision }: Decision): void {
  if (decision.outcome === 'passed') log.debug({ decision }, 'passed')
  else if (decision.outcome === 'unavailable') log.error({ decision, cause: cause instanceof Error ? cause.message : undefined }, 'unavailable')
  else log.info({ decision }, 'refused')
}
