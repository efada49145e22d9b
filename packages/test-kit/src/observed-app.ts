/** A Fastify app that keeps a record of all it lets out: answers, log lines, decision events and errors. */

import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { inspect } from 'node:util'
import { decisionChannel } from '@sallyport/guard'
import Fastify, { type FastifyInstance, type FastifyRequest, type FastifyServerOptions, type InjectOptions, type LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import { tokensOf, type Trace } from './canary.js'

/** What several apps let out, and which tokens went in. */
export class Ledger {
  readonly traces: Trace[] = []
  readonly tokens = new Set<string>()

  note (where: string, value: unknown): void {
    const text = typeof value === 'string' ? value : inspect(value, { depth: 10, showHidden: true, maxArrayLength: null, maxStringLength: null })
    this.traces.push({ where, text })
  }

  /** Remembers what in a request could be a token. */
  remember (request: InjectOptions): InjectOptions {
    for (const token of tokensOf(request.headers)) this.tokens.add(token)
    return request
  }

  /** Notes every decision event of this process until the test is over. */
  watchDecisions (t: Test): void {
    const note = (decision: unknown): void => this.note('decision event', decision)
    subscribe(decisionChannel, note)
    t.teardown(() => unsubscribe(decisionChannel, note))
  }
}

export interface ObservedAppOptions {
  readonly ledger?: Ledger | undefined
  readonly server?: FastifyServerOptions | undefined
  /** True if the app logs the headers it sees in handlers and after errors, as careless apps do. Default: false. */
  readonly logsHeaders?: boolean | undefined
}

export interface ObservedApp {
  readonly app: FastifyInstance
  /** The handler for every route: counts its runs, and answers who passed. */
  readonly handler: (request: FastifyRequest) => object
  readonly handlerRuns: () => number
  readonly send: (request: InjectOptions) => Promise<LightMyRequestResponse>
}

/** A fresh app, closed when the test is over. Logs at trace level into the ledger. */
export function observedApp (t: Test, { ledger = new Ledger(), server, logsHeaders = false }: ObservedAppOptions = {}): ObservedApp {
  const stream = { write: (line: string): void => ledger.note('log line', line) }
  const app: FastifyInstance = Fastify({ ...server, logger: { level: 'trace', stream } })
  t.teardown(() => app.close())
  let runs = 0

  const logHeaders = (request: FastifyRequest): void => {
    if (logsHeaders) request.log.trace({ headers: request.headers, raw: request.raw.rawHeaders, distinct: request.raw.headersDistinct }, 'headers')
  }
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  app.addHook('onError', async (request, _reply, error) => {
    ledger.note('error', error)
    logHeaders(request)
  })

  return {
    app,
    handler (request) {
      runs++
      logHeaders(request)
      return { passed: true, via: request.auth.via, principal: request.auth.principal }
    },
    handlerRuns: () => runs,
    async send (request) {
      const answer = await app.inject(request)
      ledger.note('header', JSON.stringify(answer.headers))
      ledger.note('body', answer.body)
      return answer
    }
  }
}
