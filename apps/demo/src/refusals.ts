/** What the demo's own systems refuse with, and the limits that lead to it. */

import type { FastifyInstance, FastifyRequest, FastifyReply, onRequestAsyncHookHandler } from 'fastify'

/** Rendered by `problemDetails`: `detail` and `code`. */
export function problem (statusCode: number, code: string, message: string): Error {
  return Object.assign(new Error(message), { statusCode, code })
}

export interface RateLimit {
  /** Requests a minute. */
  readonly max: number
  /** Whose requests are counted together. Default: those of one IPv4 address, or of one IPv6 network of 64 bits. */
  readonly keyOf?: (request: FastifyRequest) => string
}

const MINUTE_MS = 60_000

/**
 * A hook that refuses what exceeds the limit: 429 `ERR_DEMO_RATE_LIMITED` with `Retry-After`. Its place among a route's hooks
 * is its meaning: before the policy it counts everybody, behind it only those whom the policy let pass.
 * Needs `@fastify/rate-limit` in the scope.
 */
export function rateLimited (scope: FastifyInstance, { max, keyOf }: RateLimit): onRequestAsyncHookHandler {
  const count = scope.createRateLimit({ max, timeWindow: MINUTE_MS, ...(keyOf !== undefined && { keyGenerator: keyOf }) })
  return async function limitRate (request: FastifyRequest, reply: FastifyReply) {
    const counted = await count(request)
    if (counted.isAllowed) return
    reply.headers({ 'x-ratelimit-limit': max, 'x-ratelimit-remaining': counted.remaining, 'x-ratelimit-reset': counted.ttlInSeconds })
    if (!counted.isExceeded) return
    reply.header('retry-after', counted.ttlInSeconds)
    throw problem(429, 'ERR_DEMO_RATE_LIMITED', `No more than ${max} requests a minute are served here`)
  }
}
