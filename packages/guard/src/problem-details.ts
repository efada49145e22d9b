/** An error handler that answers in RFC 9457 problem details. */

import { STATUS_CODES } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'

interface AnyError { readonly statusCode?: number, readonly code?: string, readonly message?: string }

/**
 * Renders every error as `application/problem+json` (RFC 9457): `type` (`about:blank`), `title`, `status`, `detail`, `code`.
 * What went wrong inside the server stays inside: a status of 500 or more has no detail, unless a guard refused the request.
 * Use: `app.setErrorHandler(problemDetails)`.
 */
export function problemDetails (error: AnyError, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const status = typeof error.statusCode === 'number' && error.statusCode >= 400 && error.statusCode < 600 ? error.statusCode : 500
  const isOurs = typeof error.code === 'string' && 'outcome' in error
  if (status >= 500 && !isOurs) request.log.error(error)
  return reply.code(status).type('application/problem+json').send(JSON.stringify({
    type: 'about:blank',
    title: STATUS_CODES[status] ?? 'Error',
    status,
    ...(status < 500 || isOurs ? { detail: error.message, code: error.code } : {})
  }))
}
