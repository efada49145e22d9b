import { inspect } from 'node:util'
import Fastify from 'fastify'
import t from 'tap'
import type { Test } from 'tap'
import {
  allOf, anyOf, AuthError, defineRefusals, guardRefusals, isAuthError, isOptionsError, OptionsError, reasonOf, type Claim, type GuardOptions,
  type GuardRefusalCode, type Policy
} from '../src/index.js'
import { digestGuard } from './fixtures/body-guards.js'
import { codeOf, guardedApp, keyGuard, MapStore, refusedBy } from './fixtures/guards.js'

const tenants = [keyGuard('alpha', { proves: ['tenant'] }), keyGuard('beta', { proves: ['tenant'] })] as const

const claiming = (store: MapStore, more: Partial<Claim> = {}): Policy => keyGuard('alpha', {
  judge: () => ({ identity: 1, claims: [{ store, key: 'k', expiresAtMs: Date.now() + 60_000, storeTimeoutMs: 20, repeated: () => refusedBy('alpha', 'rejected'), ...more }] })
})

interface Trigger {
  readonly policy: () => Policy
  readonly headers?: Readonly<Record<string, string>>
  readonly options?: GuardOptions
  readonly url?: string
  readonly method?: 'GET' | 'POST'
}

const full = new MapStore()
full.keys.set('k', 'somebody else')
const down = new MapStore()
down.before = () => { throw new Error('down') }
const pass = { 'x-alpha': 'pass' }

/** How each code comes about. A code without a trigger fails the test. */
const triggers: Partial<Readonly<Record<GuardRefusalCode, Trigger>>> = {
  ERR_GUARD_CREDENTIAL_MISSING: { policy: () => anyOf(keyGuard('alpha'), keyGuard('beta')) },
  ERR_GUARD_CREDENTIAL_INCOMPLETE: { policy: () => allOf(keyGuard('alpha'), keyGuard('beta')), headers: pass },
  ERR_GUARD_CLAIM_REPEATED: { policy: () => claiming(full, { repeated: undefined } as unknown as Partial<Claim>), headers: pass },
  ERR_GUARD_CLAIM_LIMIT: { policy: () => claiming(new MapStore(), { quota: { group: 'g', maxLiveClaims: 0 } }), headers: pass },
  ERR_GUARD_PRINCIPAL_CONFLICT: { policy: () => allOf(...tenants), headers: { 'x-alpha': 'tenant:a', 'x-beta': 'tenant:b' } },
  ERR_GUARD_TENANT_MISMATCH: { policy: () => tenants[0].require({ tenantParam: 'id' }), headers: { 'x-alpha': 'tenant:a' }, url: '/b' },
  ERR_GUARD_HTTPS_REQUIRED: { policy: () => keyGuard('alpha'), headers: pass, options: { requireHttps: true } },
  ERR_GUARD_JUDGE_FAILED: { policy: () => keyGuard('alpha', { judge () { throw new Error('fell over') } }), headers: pass },
  ERR_GUARD_STORE_UNAVAILABLE: { policy: () => claiming(down), headers: pass },
  ERR_GUARD_BODY_UNREAD: { policy: () => digestGuard(), headers: { 'x-digest': 'a', 'content-type': 'application/unread' }, method: 'POST' },
  ERR_GUARD_BODY_UNVERIFIED: { policy: () => digestGuard().require({ body: 'stream' }), headers: { 'x-digest': 'a', 'content-type': 'application/unread' }, method: 'POST' },
  ERR_GUARD_STAGE_LATE: { policy: () => keyGuard('early') }
}

const statusOf = { absent: 401, rejected: 401, forbidden: 403, unavailable: 503 } as const

for (const [code, { outcome, message, ...entry }] of Object.entries(guardRefusals) as [GuardRefusalCode, { outcome: keyof typeof statusOf, message: string, statusCode?: number }][]) {
  t.test(`${code} is answered with the status and the message of its table`, async (t) => {
    const answer = await answerOf(t, code)
    const status = entry.statusCode ?? statusOf[outcome]
    t.same([answer.statusCode, codeOf(answer), answer.json<{ message: string }>().message], [status, code, message])
    if (status === 401) t.match(answer.headers['www-authenticate'], /^Key-/)
    if (status === 503 && code !== 'ERR_GUARD_ROUTE_UNSEEN') t.equal(answer.headers['retry-after'], '1')
    if (status === 429) t.match(answer.headers['retry-after'], /^[1-9]\d*$/)
  })
}

async function answerOf (t: Test, code: GuardRefusalCode) {
  if (code === 'ERR_GUARD_ROUTE_UNSEEN') {
    const bare = Fastify()
    t.teardown(() => bare.close())
    bare.get('/', { onRequest: keyGuard('alpha') }, () => 'reached')
    return bare.inject({ url: '/', headers: pass })
  }
  const trigger = triggers[code]
  if (trigger === undefined) throw new Error(`nothing here triggers ${code}`)
  const app = await guardedApp(t, trigger.options)
  const late = code === 'ERR_GUARD_STAGE_LATE' && { preHandler: claiming(new MapStore()) as unknown as () => void }
  app.addContentTypeParser('application/unread', (_request, payload, done) => { done(null, payload) })
  const { url = '/', method = 'GET' } = trigger
  app.route({ method, url: '/:id?', onRequest: trigger.policy(), ...late, handler: () => 'reached' })
  return app.inject({ url, method, ...method === 'POST' && { payload: 'body' }, headers: { ...trigger.headers, ...late && { 'x-early': 'pass', 'x-alpha': 'pass' } } })
}

t.test('an AuthError takes its status from its outcome, and shows constants only', async (t) => {
  for (const [outcome, status] of Object.entries(statusOf)) {
    t.equal(new AuthError({ code: 'ERR_X', outcome: outcome as keyof typeof statusOf, message: 'x' }).statusCode, status)
  }
  const error = new AuthError({ code: 'ERR_X', outcome: 'forbidden', message: 'constant', statusCode: 409, challenge: 'X', retryAfterSeconds: 3, reason: 'canary', cause: 'canary' })
  t.match(error, { name: 'AuthError', code: 'ERR_X', outcome: 'forbidden', statusCode: 409, challenge: 'X', retryAfterSeconds: 3, message: 'constant' })
  t.notMatch(inspect(error) + JSON.stringify(error), /canary/)
  t.equal(reasonOf(error), 'canary')
  t.equal(reasonOf(new AuthError({ code: 'ERR_X', outcome: 'absent', message: 'x' })), 'ERR_X', 'the code, where no finer reason was given')
  t.equal(new AuthError({ code: 'ERR_X', outcome: 'absent', message: 'x' }).challenge, undefined)
})

t.test('an OptionsError names the package, the option and the rule', async (t) => {
  const error = new OptionsError('@sallyport/x', 'keys[0].secret', 'must be longer')
  t.match(error, { name: 'OptionsError', code: 'ERR_GUARD_OPTIONS', option: 'keys[0].secret', message: '@sallyport/x: option "keys[0].secret" must be longer' })
  t.ok(error instanceof TypeError)
})

t.test('errors are told by their brand, not by their class or their shape', async (t) => {
  const auth = refusedBy('x', 'absent')
  const options = new OptionsError('a', 'b', 'c')
  t.same([isAuthError(auth), isOptionsError(auth), isAuthError(options), isOptionsError(options)], [true, false, false, true])
  for (const other of [undefined, null, 'x', {}, new Error('x'), { code: 'ERR_X', outcome: 'absent', statusCode: 401 }, Object.assign(new Error('x'), { outcome: 'absent' })]) {
    t.same([isAuthError(other), isOptionsError(other)], [false, false])
  }
})

t.test('defineRefusals makes an error of a table\'s line, and of nothing else', async (t) => {
  const refusal = defineRefusals({ ERR_X_LIMIT: { outcome: 'forbidden', statusCode: 429, message: 'slow down' } })
  const error = refusal('ERR_X_LIMIT', { retryAfterSeconds: 5, reason: 'limit' })
  t.match(error, { code: 'ERR_X_LIMIT', statusCode: 429, outcome: 'forbidden', message: 'slow down', retryAfterSeconds: 5 })
  t.not(refusal('ERR_X_LIMIT'), refusal('ERR_X_LIMIT'), 'a new one each time')
})
