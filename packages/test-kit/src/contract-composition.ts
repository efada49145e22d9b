/** The contract's clauses on how a guard goes together with others. */

import fastifyAuth from '@fastify/auth'
import { allOf, AuthError, anyOf, defineGuard, headerValues, optional, type CommonOptions, type Policy } from '@sallyport/guard'
import type { InjectOptions, LightMyRequestResponse } from 'fastify'
import type { Test } from 'tap'
import type { Contract } from './contract.js'

/** A second credential that has nothing to do with the plugin's own: right if `x-bystander` is `right`. */
const bystander = defineGuard({
  owner: '@sallyport/test-kit',
  name: 'bystander',
  credentials: [{ header: 'x-bystander' }],
  proves: [],
  challenges: { absent: 'Bystander', rejected: 'Bystander error="wrong"' },
  missing: () => new AuthError({ code: 'ERR_BYSTANDER_MISSING', outcome: 'absent', message: 'missing' }),
  isPresented: (request) => headerValues(request, 'x-bystander').length > 0,
  judge (request) {
    if (headerValues(request, 'x-bystander')[0] !== 'right') throw new AuthError({ code: 'ERR_BYSTANDER_WRONG', outcome: 'rejected', message: 'wrong' })
    return { identity: 'bystander' }
  }
})

const beside = (request: InjectOptions, value: 'right' | 'wrong'): InjectOptions => ({ ...request, headers: { ...request.headers, 'x-bystander': value } })
const codeOf = (answer: LightMyRequestResponse): string => answer.json<{ code: string }>().code

export async function compositionTests<O extends CommonOptions> (t: Test, contract: Contract<O>): Promise<void> {
  const wrong = contract.wrongCredential()
  const plain = contract.plainRefusal()
  const composed = (t: Test, compose: (guard: Policy) => Policy) => contract.guarded(t, { policy: compose })

  await t.test('works in an array of hooks', async (t) => {
    const { app, handler, send, handlerRuns } = contract.bare(t)
    await contract.register(app)
    // Policies that follow each other are held to what allOf asks, so the tenantless one has to say that it is meant.
    contract.declare(app, handler, [contract.guardIn(app), allOf(bystander, { sharedKey: true })])
    t.same(codeOf(await send(await contract.request(wrong.request))), wrong.code)
    t.same(codeOf(await send(beside(await contract.accepted(), 'wrong'))), 'ERR_BYSTANDER_WRONG')
    t.equal(handlerRuns(), 0)
    const passed = await send(beside(await contract.accepted(), 'right'))
    t.same(passed.json<{ via: string[] }>().via, [contract.spec.name, 'bystander'], passed.body)
  })

  for (const order of ['first', 'last'] as const) {
    await t.test(`works in allOf, written ${order}`, async (t) => {
      const { send, handlerRuns } = await composed(t, (guard) => order === 'first' ? allOf(guard, bystander, { sharedKey: true }) : allOf(bystander, guard, { sharedKey: true }))
      t.equal((await send(await contract.accepted())).statusCode, 401, 'the other credential is missing')
      t.equal((await send(beside(await contract.accepted(), 'wrong'))).statusCode, 401)
      t.equal((await send(beside(await contract.request(wrong.request), 'right'))).statusCode, wrong.status)
      const missing = await send(beside(await contract.request(plain.request), 'right'))
      t.equal(codeOf(missing), contract.isAmbient ? plain.code : 'ERR_GUARD_CREDENTIAL_INCOMPLETE')
      t.equal(handlerRuns(), 0)
      const passed = await send(beside(await contract.accepted(), 'right'))
      t.equal(passed.statusCode, 200, passed.body)
    })

    await t.test(`works in anyOf, written ${order}`, async (t) => {
      const { app, handler, send, handlerRuns } = contract.bare(t)
      await contract.register(app)
      const guard = contract.guardIn(app)
      contract.declare(app, handler, order === 'first' ? anyOf(guard, bystander) : anyOf(bystander, guard))
      // The first credential that is presented decides; an address counts only where none is
      const decides = order === 'first' && !contract.isAmbient
      const wrongBesideRight = await send(beside(await contract.request(wrong.request), 'right'))
      t.equal(wrongBesideRight.statusCode, decides ? wrong.status : 200, 'a wrong credential is never saved by a right one after it')
      const rightBesideWrong = await send(beside(await contract.accepted(), 'wrong'))
      t.equal(rightBesideWrong.statusCode, decides ? 200 : 401)
      t.equal(handlerRuns(), 1)
      t.equal((await send(await contract.accepted())).statusCode, 200)
      t.equal((await send(beside(await contract.request(plain.request), 'right'))).statusCode, 200)
    })
  }

  if (!contract.isAmbient) {
    await t.test('works in optional, where a wrong credential is not anonymous', async (t) => {
      const { send, handlerRuns } = await composed(t, (guard) => optional(guard))
      t.equal((await send(await contract.request(wrong.request))).statusCode, wrong.status)
      t.equal(handlerRuns(), 0)
      t.same((await send({ url: contract.route })).json<{ via: string[] }>().via, [])
      t.same((await send(await contract.accepted())).json<{ via: string[] }>().via, [contract.spec.name])
    })
  }

  await t.test('works in fastify.auth([...]) of @fastify/auth', async (t) => {
    const { app, handler, send, handlerRuns } = contract.bare(t)
    await app.register(fastifyAuth)
    await contract.register(app)
    const guard = contract.guardIn(app)
    app.route({ method: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'], url: contract.route, onRequest: app.auth([guard, bystander], { relation: 'and' }), handler })
    t.ok((await send(beside(await contract.request(plain.request), 'right'))).statusCode >= 400)
    t.ok((await send(beside(await contract.request(wrong.request), 'right'))).statusCode >= 400)
    t.equal((await send(beside(await contract.accepted(), 'wrong'))).statusCode, 401)
    t.equal(handlerRuns(), 0)
    const passed = await send(beside(await contract.accepted(), 'right'))
    t.equal(passed.statusCode, 200, passed.body)
    t.equal(contract.guardIn(app), guard, 'and stays itself')
  })
}
