/** Whose forwarded headers count: reads Fastify's `trustProxy` before anything is decided by `request.ip` or `request.protocol`. */

import type { FastifyInstance } from 'fastify'
import { OptionsError } from './errors.js'

export interface ForwardingQuestion {
  /** The package that asks, as it stands in messages. */
  readonly owner: string
  /** The option that made it ask. */
  readonly option: string
  /** How to do without: `use source: 'socket'`. */
  readonly otherwise: string
}

/**
 * Passes if forwarded headers count from named proxies only (or not at all).
 * Throws an `OptionsError` for `trustProxy: true`, for a number of hops, and where the setting can't be found out:
 * with those any client could choose its own address or protocol.
 */
export function assertForwardingIsSafe (app: FastifyInstance, question: ForwardingQuestion): void {
  const found = readTrustProxy(app)
  if (found === 'safe') return
  const why = {
    everyone: 'can\'t be kept with trustProxy: true, nor with a list or a function that comes to the same: forwarded headers of any client would count',
    hops: 'can\'t be kept with a number as trustProxy, which counts hops and not who is trusted',
    unknown: 'can\'t be kept because the trustProxy setting of this Fastify can\'t be found out'
  }[found]
  throw new OptionsError(question.owner, question.option, `${why}; name the proxies (trustProxy: ['10.0.0.0/8']) or ${question.otherwise}`)
}

function readTrustProxy (app: FastifyInstance): 'safe' | 'everyone' | 'hops' | 'unknown' {
  const options = findBySymbol(app, 'fastify.options') as { trustProxy?: unknown } | undefined
  if (options === undefined) return probe(app)
  const { trustProxy } = options
  if (trustProxy === true) return 'everyone'
  if (typeof trustProxy === 'number') return 'hops'
  // A function or a list may still trust everyone ('0.0.0.0/0'), so what it does is tried too.
  return trustProxy === undefined || trustProxy === false ? 'safe' : probe(app)
}

/** Peers that no sensible list of proxies holds, one in each half of both families. */
const strangers = ['8.8.8.8', '192.0.2.77', '2001:db8::77', '9fff::77']

/** Asks the request class itself: does a made-up peer's `X-Forwarded-For` count? */
function probe (app: FastifyInstance): 'safe' | 'everyone' | 'unknown' {
  const requestClass = findBySymbol(app, 'fastify.Request') as { prototype?: object } | undefined
  if (requestClass?.prototype === undefined) return 'unknown'
  try {
    const answers = strangers.map((remoteAddress) => {
      const headers = { 'x-forwarded-for': '198.51.100.99' }
      const raw = { headers, socket: { remoteAddress }, connection: { remoteAddress } }
      const request = Object.create(requestClass.prototype!) as { raw: unknown, ip?: string }
      request.raw = raw
      return request.ip === remoteAddress
    })
    return answers.every(Boolean) ? 'safe' : 'everyone'
  } catch {
    return 'unknown'
  }
}

function findBySymbol (app: FastifyInstance, description: string): unknown {
  for (let object: object | null = app; object !== null; object = Object.getPrototypeOf(object) as object | null) {
    const symbol = Object.getOwnPropertySymbols(object).find((candidate) => candidate.description === description)
    if (symbol !== undefined) return (object as Record<symbol, unknown>)[symbol]
  }
  return undefined
}
