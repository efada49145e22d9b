/** The contract's clauses on refusals: every code as documented, nothing reached, nothing leaked. */

import { guardRefusals, type CommonOptions } from '@sallyport/guard'
import type { LightMyRequestResponse } from 'fastify'
import type { AddressInfo } from 'node:net'
import type { Test } from 'tap'
import { findLeaks } from './canary.js'
import type { Contract, Sample } from './contract.js'
import { mutationsOf } from './mutations.js'
import { rawRequest } from './raw-request.js'

interface ErrorBody { readonly code: string, readonly statusCode: number, readonly message: string }

export async function refusalTests<O extends CommonOptions> (t: Test, contract: Contract<O>): Promise<void> {
  const { spec, ledger } = contract
  const samples = contract.samples()

  await t.test('has a sample for every code of its refusal table, and for no other', async (t) => {
    const explained = Object.keys(spec.unreachable ?? {})
    t.same([...Object.keys(spec.samples), ...explained].sort(), Object.keys(spec.refusals).sort())
    t.same(explained.filter((code) => code in spec.samples), [], 'a code with a sample is reachable')
  })

  for (const sample of samples) {
    await t.test(`answers ${sample.code} with ${sample.status}, and the handler never runs`, async (t) => {
      t.equal(sample.status, contract.statusOf(sample.code), 'the status of the table')
      const { app, send, handlerRuns } = await contract.guarded(t, sample)
      await app.ready()
      await sample.before?.({ app, guard: contract.guardIn(app) })
      const before = handlerRuns()
      const answer = await send(await contract.request(sample.request, sample.route))
      const { code, message } = answer.json<ErrorBody>()
      t.equal(code, sample.code, answer.body)
      t.equal(answer.statusCode, sample.status)
      t.equal(message, spec.refusals[sample.code]?.message, 'the constant message of the table')
      isChallenged(t, answer, sample)
      if (spec.refusals[sample.code]?.outcome === 'unavailable') t.match(answer.headers['retry-after'], /^[1-9]\d*$/)
      t.equal(handlerRuns(), before)
    })
  }

  await t.test('guards HEAD too', async (t) => {
    const { send, handlerRuns } = await contract.guarded(t)
    const plain = contract.plainRefusal()
    const head = await send({ ...await contract.request(plain.request), method: 'HEAD' })
    t.ok(head.statusCode === 401 || head.statusCode === 403, `HEAD was answered with ${head.statusCode}`)
    t.equal(handlerRuns(), 0)
  })

  await t.test('guards a protected scope: its routes, the ones declared earlier, HEAD and its own 404', async (t) => {
    const { app, handler, send, handlerRuns } = contract.bare(t)
    await app.register(async (scope) => {
      await contract.register(scope)
      scope.get('/early', handler)
      scope.setNotFoundHandler(handler)
      scope.protect(contract.guardIn(scope))
      scope.get('/late', handler)
    }, { prefix: '/protected' })
    const plain = contract.plainRefusal()
    for (const method of ['GET', 'HEAD'] as const) {
      for (const url of ['/protected/early', '/protected/late', '/protected/nothing', '/protected']) {
        const answer = await send({ ...await contract.request(plain.request), url, method })
        t.equal(answer.statusCode, plain.status, `${method} ${url}`)
      }
    }
    t.equal(handlerRuns(), 0)
  })

  await t.test('keeps its challenge under a custom error handler that keeps the status', async (t) => {
    for (const sample of samples) {
      const { app, send } = await contract.guarded(t, sample)
      app.setErrorHandler((error, _request, reply) => reply.code((error as ErrorBody).statusCode).send({ custom: true }))
      await app.ready()
      await sample.before?.({ app, guard: contract.guardIn(app) })
      const answer = await send(await contract.request(sample.request, sample.route))
      t.same(answer.json(), { custom: true })
      t.equal(answer.statusCode, sample.status)
      isChallenged(t, answer, sample)
    }
  })

  await t.test('puts no challenge on a 200, whether the request passed or an error handler forgave it', async (t) => {
    const { app, send } = await contract.guarded(t)
    app.setErrorHandler((_error, _request, reply) => reply.code(200).send({ forgiven: true }))
    const forgiven = await send(await contract.request(contract.plainRefusal().request))
    t.same(forgiven.json(), { forgiven: true })
    t.notOk('www-authenticate' in forgiven.headers)
    t.notOk('www-authenticate' in (await send(await contract.accepted())).headers)
  })

  await t.test('answers nothing that a client sends with 500 or more', async (t) => {
    const { app, handlerRuns } = await contract.guarded(t)
    const known = new Set([...Object.keys(spec.refusals), ...Object.keys(guardRefusals)])
    const failures: string[] = []
    const sources = [spec.accepted, ...samples.filter(({ options, policy, route, before }) => !(options ?? policy ?? route ?? before)).map(({ request }) => request)]
    let sent = 0
    for (const source of sources) {
      for (const { title, apply } of mutationsOf(await contract.request(source))) {
        const answer = await app.inject(apply(await contract.request(source)))
        ledger.note('body', answer.body)
        ledger.note('header', JSON.stringify(answer.headers))
        const code = answer.statusCode >= 400 && answer.body.startsWith('{') ? answer.json<ErrorBody>().code : undefined
        if (answer.statusCode >= 500) failures.push(`${title}: ${answer.statusCode} ${code}`)
        else if (code !== undefined && !known.has(code) && !code.startsWith('FST_')) failures.push(`${title}: ${code} is in no table`)
        sent++
      }
    }
    t.same(failures, [])
    t.comment(`${sent} wrong requests, of which ${handlerRuns()} were right enough`)
  })

  await t.test('answers repeated headers without 500, whichever comes first', async (t) => {
    const { app } = await contract.guarded(t)
    await app.listen({ port: 0, host: '127.0.0.1' })
    const { port } = app.server.address() as AddressInfo
    const accepted = await contract.accepted()
    for (const [name, value] of Object.entries(accepted.headers ?? {})) {
      for (const [first, second] of [[value, value], [value, 'other'], ['other', value], [value, '']]) {
        const lines = Object.entries((await contract.accepted()).headers ?? {}).filter(([other]) => other !== name).map(([other, text]) => `${other}: ${String(text)}`)
        const answer = await rawRequest(port, [`${accepted.method} ${accepted.url as string} HTTP/1.1`, `${name}: ${String(first)}`, ...lines, `${name}: ${String(second)}`])
        ledger.note('body', answer.body)
        ledger.note('header', JSON.stringify(answer.headers))
        t.ok(answer.status < 500, `${name} twice: ${answer.status}`)
      }
    }
  })

  await t.test('lets no secret out: in no body, header, log line, decision event or error', async (t) => {
    t.ok(ledger.traces.some(({ where }) => where === 'decision event'), 'decisions were published')
    t.ok(ledger.traces.some(({ where }) => where === 'log line'), 'log lines were written')
    t.same(findLeaks(ledger.traces, [...spec.secrets, ...ledger.tokens]), [])
  })
}

function isChallenged<O> (t: Test, { statusCode, headers }: LightMyRequestResponse, { challenge = statusCode === 401 ? true : undefined }: Sample<O>): void {
  const given = headers['www-authenticate']
  if (challenge === true) t.match(given, /^[A-Za-z][\w-]*(?: |$)/, 'there is a challenge')
  else if (challenge === false) t.equal(given, undefined)
  else if (challenge !== undefined) t.ok(String(given).includes(challenge), `"${String(given)}" holds "${challenge}"`)
}
