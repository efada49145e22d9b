/** The list-management API: routes that read and change the lists of a store. */

import type { FastifyInstance, FastifyPluginAsync, FastifyReply, FastifyRequest, FastifySchema } from 'fastify'
import { assertForwardingIsSafe, problemDetails } from '@sallyport/guard'
import { formatAddress, owner, parseAddress } from './address.js'
import { routesError } from './errors.js'
import { ListEditor, type ChangedList, type ChangeRequest } from './list-editor.js'
import type { ListActor } from './list-store.js'
import { entityTagOf, holds, readPrecondition } from './preconditions.js'
import { resolveRoutesOptions, type AllowlistRoutesOptions } from './routes-options.js'

const listName = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$/
const maxHistory = 1_000

/**
 * The management API of the lists in a store, behind one policy. To be registered with a `prefix`:
 *
 * | route | what |
 * |---|---|
 * | `GET /` | names and versions |
 * | `GET /:list` | the entries, with an `ETag` |
 * | `PUT /:list` | makes or replaces the list; needs `If-Match`, or `If-None-Match: *` for a new one (428) |
 * | `PATCH /:list` | `{ add, remove }`; `If-Match` may be left out, since the change fits any version |
 * | `DELETE /:list` | needs `If-Match` |
 * | `GET /:list/history` | who changed what and when, newest first; `?limit=` |
 *
 * A change that would shut out the caller's own address is 409 unless the query says `force=true`. Every answer that is no
 * success is `application/problem+json` (RFC 9457), the policy's too.
 * Throws `OptionsError` for wrong options, and for a `trustProxy` that would let clients choose their own address.
 */
export const allowlistRoutes: FastifyPluginAsync<AllowlistRoutesOptions> = async function allowlistRoutes (app: FastifyInstance, given) {
  const { policy, lists, source, bodyLimit, editor: editorOptions } = resolveRoutesOptions(given)
  if (source === 'request') assertForwardingIsSafe(app, { owner, option: 'source', otherwise: 'use source: \'socket\'' })
  const editor = new ListEditor(editorOptions)

  function isManaged (name: string): boolean {
    return lists === undefined || lists.includes(name)
  }

  function readName (request: FastifyRequest): string {
    const { list } = request.params as { readonly list: string }
    if (!listName.test(list)) throw routesError('ERR_IP_ALLOWLIST_REQUEST_INVALID', '"list" must be 1 to 100 letters, digits and . _ : -')
    if (!isManaged(list)) throw routesError('ERR_IP_ALLOWLIST_LIST_UNKNOWN')
    return list
  }

  function readChange (request: FastifyRequest): ChangeRequest {
    return { name: readName(request), precondition: readPrecondition(request.headers), force: readForce(request), by: actorOf(request, source) }
  }

  app.setErrorHandler(answerProblem)
  const common = { onRequest: policy, validatorCompiler: () => takeAnything }

  app.get('/', { ...common, prefixTrailingSlash: 'no-slash' }, async (_request, reply) => {
    const versions = [...await editor.versions()].filter(([name]) => isManaged(name))
    return answer(reply, { lists: versions.map(([list, version]) => ({ list, version })) })
  })

  app.get('/:list', { ...common, schema: schemas.read }, async (request, reply) => {
    const name = readName(request)
    const { version, entries } = await editor.read(name)
    reply.header('etag', entityTagOf(version))
    if (!holds({ ...readPrecondition(request.headers), match: undefined }, version)) return reply.code(304).send()
    return answer(reply, { list: name, entries })
  })

  app.put('/:list', { ...common, schema: schemas.put, bodyLimit }, async (request, reply) => {
    const { entries } = readBody(request, ['entries'])
    if (entries === undefined) throw routesError('ERR_IP_ALLOWLIST_REQUEST_INVALID', 'the body must have "entries"')
    const change = readChange(request)
    return answerChange(reply, change.name, await editor.put(change, entries))
  })

  app.patch('/:list', { ...common, schema: schemas.patch, bodyLimit }, async (request, reply) => {
    const { add = [], remove = [] } = readBody(request, ['add', 'remove'])
    if (add.length + remove.length === 0) throw routesError('ERR_IP_ALLOWLIST_REQUEST_INVALID', 'the body must have "add" or "remove" with entries')
    const change = readChange(request)
    return answerChange(reply, change.name, await editor.patch(change, { add, remove }))
  })

  app.delete('/:list', { ...common, schema: schemas.delete }, async (request, reply) => {
    await editor.delete(readChange(request))
    return reply.code(204).send()
  })

  app.get('/:list/history', { ...common, schema: schemas.history }, async (request, reply) => {
    const name = readName(request)
    return answer(reply, { list: name, changes: await editor.history(name, readLimit(request)) })
  })
}

/**
 * Bodies and queries are judged in this file: the app's own validator may coerce values, drop members that it does not know
 * (a misspelt `expiresAt` would then count for ever), or take other schemas than JSON Schema.
 */
function takeAnything (): true {
  return true
}

function answer (reply: FastifyReply, body: object): FastifyReply {
  return reply.header('cache-control', 'private, no-cache').send(body)
}

function answerChange (reply: FastifyReply, list: string, { version, entries, isNew, warnings }: ChangedList): FastifyReply {
  return answer(reply.code(isNew ? 201 : 200).header('etag', entityTagOf(version)), { list, entries, ...(warnings.length > 0 && { warnings }) })
}

function answerProblem (error: Error & { readonly retryAfterSeconds?: number }, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  if (error.retryAfterSeconds !== undefined) reply.header('retry-after', String(error.retryAfterSeconds))
  return problemDetails(error, request, reply)
}

/** Who makes a change: what the policy proved, and the address that it came from. */
function actorOf (request: FastifyRequest, source: 'request' | 'socket'): ListActor {
  const { subject, tenant } = request.auth.principal
  const address = parseAddress(source === 'request' ? request.ip : request.raw.socket.remoteAddress)
  return {
    ...(subject !== undefined && { subject }),
    ...(tenant !== undefined && { tenant }),
    ...(address !== undefined && { address: formatAddress(address) })
  }
}

/** The lists in a body that has no other members than these. */
function readBody<N extends string> ({ body }: FastifyRequest, names: readonly N[]): Partial<Record<N, readonly unknown[]>> {
  const isRight = typeof body === 'object' && body !== null && !Array.isArray(body) && Object.entries(body).every(([name, value]) => names.includes(name as N) && Array.isArray(value))
  if (!isRight) throw routesError('ERR_IP_ALLOWLIST_REQUEST_INVALID', `the body must be a JSON object whose only members are lists: ${names.join(', ')}`)
  return body
}

function readForce (request: FastifyRequest): boolean {
  const { force = 'false' } = request.query as { readonly force?: unknown }
  if (force !== 'true' && force !== 'false') throw routesError('ERR_IP_ALLOWLIST_REQUEST_INVALID', '"force" must be true or false')
  return force === 'true'
}

function readLimit (request: FastifyRequest): number {
  const { limit = '100' } = request.query as { readonly limit?: unknown }
  const count = typeof limit === 'string' && /^[1-9]\d{0,3}$/.test(limit) ? Number(limit) : NaN
  if (!(count <= maxHistory)) throw routesError('ERR_IP_ALLOWLIST_REQUEST_INVALID', `"limit" must be a whole number, 1 to ${maxHistory}`)
  return count
}

const params = { type: 'object', required: ['list'], properties: { list: { type: 'string', pattern: listName.source } } }
const forced = { type: 'object', properties: { force: { type: 'boolean', default: false, description: 'Makes the change although it shuts out the caller' } } }
const entry = {
  oneOf: [
    { type: 'string', description: 'An address, a network or a range' },
    {
      type: 'object',
      required: ['entry'],
      additionalProperties: false,
      properties: {
        entry: { type: 'string' },
        note: { type: 'string', minLength: 1, maxLength: 200 },
        expiresAt: { type: 'string', format: 'date-time', description: 'RFC 3339, UTC; the entry counts until before' }
      }
    }
  ]
}

/** For documents such as OpenAPI. */
const schemas = {
  read: { params },
  put: {
    params,
    querystring: forced,
    body: { type: 'object', required: ['entries'], additionalProperties: false, properties: { entries: { type: 'array', items: entry } } }
  },
  patch: {
    params,
    querystring: forced,
    body: {
      type: 'object',
      minProperties: 1,
      additionalProperties: false,
      properties: { add: { type: 'array', items: entry }, remove: { type: 'array', items: entry } }
    }
  },
  delete: { params, querystring: forced },
  history: {
    params,
    querystring: { type: 'object', properties: { limit: { type: 'integer', minimum: 1, maximum: maxHistory, default: 100 } } }
  }
} as const satisfies Record<string, FastifySchema>
