/** What a variant is: a server, and the requests that it takes. Keys are constants, since server and load are two processes. */

import type { RequestListener } from 'node:http'
import Fastify, { type FastifyInstance } from 'fastify'

export interface Sample {
  readonly method: 'GET' | 'POST'
  /** Lower-case, `host` included. */
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
}

export interface Variant {
  /**
   * The bare route that it counts as a share of: same framework, and it gets the same requests. A bare route is its own base,
   * and `<base>, again` is its control.
   */
  readonly base: string
  /** Builds the server; it answers `/` with 200 and `{"ok":true}`. */
  readonly serve: () => Promise<RequestListener>
  /** Prepares what makes its requests. */
  readonly requests: () => Promise<() => Sample | Promise<Sample>>
  /** True if no request may be sent twice. Otherwise the first is repeated. */
  readonly isFresh?: boolean
  readonly target?: Target
}

/** The two servers that get the same requests: the variant's own, and that of its base. */
export type Side = 'base' | 'own'

export interface Target {
  /** Share of the bare route's requests per second. */
  readonly share: number
  /** A variant, of the same base, whose share must be smaller in the same run. */
  readonly fasterThan?: string
}

export const secret = Buffer.from('a secret of this benchmark alone')
export const tenant = '100001'
export const answer = { ok: true }
export const host = 'bench.example'
const body = JSON.stringify({ note: 'x'.repeat(1_013) })

export const get: Sample = { method: 'GET', headers: { host } }
export const post: Sample = { method: 'POST', headers: { host, 'content-type': 'application/json' }, body }

/** The same request each time, with these headers. */
export function repeated (sample: Sample, headers: Sample['headers'] = {}): Variant['requests'] {
  return async () => () => ({ ...sample, headers: { ...sample.headers, ...headers } })
}

/** A Fastify server; `route` puts `/` on it. */
export function fastify (route: (app: FastifyInstance) => void | Promise<void>): Variant['serve'] {
  return async () => {
    const app = Fastify()
    await route(app)
    await app.ready()
    return (request, response) => { app.routing(request, response) }
  }
}

const bareGet: Variant = { base: 'bare', serve: fastify((app) => { app.get('/', () => answer) }), requests: repeated(get) }
const barePost: Variant = { base: 'bare, POST', serve: fastify((app) => { app.post('/', () => answer) }), requests: repeated(post) }

export const bareVariants: Readonly<Record<string, Variant>> = {
  'bare': bareGet,
  'bare, again': bareGet,
  'bare, POST': barePost,
  'bare, POST, again': barePost
}
