import { createVerify, generateKeyPairSync, randomBytes } from 'node:crypto'
import { AuthError } from '@sallyport/guard'
import t, { type Test } from 'tap'
import { type Algorithm, type BearerJwtOptions, type BearerJwtRefusalCode, type KeyHints, type KeyResolver } from '../src/index.js'
import { isRefused, testApp } from './fixtures/app.js'
import { countMacs } from './fixtures/macs.js'
import { claims, encode, hmacToken, NOW, otherSecret, p256, p521, rsa, secret, signedToken } from './fixtures/tokens.js'

const us = 'https://us'
const api = 'api://orders'
const invalid = 'ERR_BEARER_JWT_CLAIMS_INVALID'
const expired = 'ERR_BEARER_JWT_TOKEN_EXPIRED'

/** Claims as JSON text, with one member written as given: `1e400` and `-0` survive no object. */
function claimsWith (name: string, text: string | undefined): string {
  const members: Record<string, string> = { iss: `"${us}"`, aud: `"${api}"`, exp: String(NOW + 60) }
  delete members[name]
  if (text !== undefined) members[name] = text
  return `{${Object.entries(members).map(([key, value]) => `"${key}":${value}`).join(',')}}`
}

t.test('refuses claims of any type but the right one', async (t) => {
  const values: Readonly<Record<string, string | undefined>> = {
    'absent': undefined, 'null': 'null', 'empty': '""', '[]': '[]', 'good and evil': `["${us}","${api}","https://evil"]`, '[[]]': '[[]]', '{}': '{}', 'true': 'true', 'false': 'false',
    '"123"': '"123"', '1e400': '1e400', '-1e400': '-1e400', '-1': '-1', '"NaN"': '"NaN"', '"NOW+60"': `"${NOW + 60}"`, '9e15': '9e15'
  }
  const text = ['absent', 'empty', '"123"', '"NaN"', '"NOW+60"']
  const date = ['absent', '-1']
  const legal: Readonly<Record<'with rules' | 'without rules', Readonly<Record<string, readonly string[]>>>> = {
    'with rules': { iss: [], aud: ['good and evil'], sub: text, exp: [], nbf: date, iat: date, jti: text },
    'without rules': { iss: text, aud: [...text, 'good and evil'], sub: text, exp: ['absent'], nbf: date, iat: date, jti: text }
  }
  const rules = { 'with rules': { issuer: us, audience: api }, 'without rules': { requireExpiration: false } }
  for (const [title, options] of Object.entries(rules)) {
    const { send, decisions } = await testApp(t, options)
    for (const [name, cells] of Object.entries(legal[title as keyof typeof legal])) {
      for (const [value, written] of Object.entries(values)) {
        const answer = await send(hmacToken(claimsWith(name, written)))
        const cell = `${title}: ${name} ${value}`
        if (cells.includes(value)) { t.equal(answer.statusCode, 200, cell); continue }
        isRefused(t, answer, name === 'exp' && value === '-1' ? expired : invalid, cell)
        t.ok(['claim-type', 'claim-missing', 'issuer', 'audience', 'expired'].includes(decisions.at(-1)!.reason!), cell)
      }
    }
  }
})

t.test('compares issuer and audience exactly', async (t) => {
  const { send } = await testApp(t, { issuer: [us, 'https://them'], audience: [api, 'api://other'] })
  const accepted = [{ iss: us, aud: api }, { iss: 'https://them', aud: 'api://other' }, { iss: us, aud: ['x', api] }]
  for (const given of accepted) t.equal((await send(hmacToken({ ...claims, ...given }))).statusCode, 200, JSON.stringify(given))
  const refused = [
    { iss: `${us}/`, aud: api }, { iss: 'HTTPS://us', aud: api }, { iss: `${us} `, aud: api }, { iss: `${us}\0`, aud: api }, { iss: [us], aud: api },
    { iss: us, aud: 'API://orders' }, { iss: us, aud: `${api} api://other` }, { iss: us, aud: [api, 1] }, { iss: us, aud: { [api]: 1 } }, { iss: us }, { aud: api }
  ]
  for (const given of refused) isRefused(t, await send(hmacToken({ ...claims, ...given })), invalid, JSON.stringify(given))
})

t.test('judges times by the clock, to the second that RFC 7519 names', async (t) => {
  const cases: readonly (readonly [string, Partial<BearerJwtOptions<unknown>>, object, true | BearerJwtRefusalCode])[] = [
    ['exp a second away', {}, { exp: NOW + 1 }, true],
    ['exp a moment away', {}, { exp: NOW + 0.001 }, true],
    ['exp now', {}, { exp: NOW }, expired],
    ['exp over within the tolerance', { clockToleranceSeconds: 5 }, { exp: NOW - 4 }, true],
    ['exp over by the tolerance', { clockToleranceSeconds: 5 }, { exp: NOW - 5 }, expired],
    ['no exp', {}, {}, invalid],
    ['no exp where it is waived', { requireExpiration: false }, {}, true],
    ['exp over where it is waived', { requireExpiration: false }, { exp: NOW - 1 }, expired],
    ['nbf now', {}, { nbf: NOW, exp: NOW + 1 }, true],
    ['nbf 2 s away', {}, { nbf: NOW + 2, exp: NOW + 3 }, expired],
    ['nbf away within the tolerance', { clockToleranceSeconds: 2 }, { nbf: NOW + 2, exp: NOW + 3 }, true],
    ['iat ahead, which is nobody\'s business', {}, { iat: NOW + 9, exp: NOW + 10 }, true],
    ['15 s from nbf to exp', { maxLifetimeSeconds: 15 }, { nbf: NOW, exp: NOW + 15 }, true],
    ['16 s from nbf to exp', { maxLifetimeSeconds: 15 }, { nbf: NOW, exp: NOW + 16 }, invalid],
    ['15 s from iat to exp', { maxLifetimeSeconds: 15 }, { iat: NOW, exp: NOW + 15 }, true],
    ['16 s from iat to exp', { maxLifetimeSeconds: 15 }, { iat: NOW, exp: NOW + 16 }, invalid],
    ['nbf before iat', { maxLifetimeSeconds: 15 }, { nbf: NOW - 10, iat: NOW, exp: NOW + 15 }, invalid],
    ['a lifetime without a start', { maxLifetimeSeconds: 15 }, { exp: NOW + 1 }, invalid],
    ['a lifetime that starts in the future', { maxLifetimeSeconds: 15 }, { iat: NOW + 1000, exp: NOW + 1010 }, expired],
    ['a lifetime that starts ahead within the tolerance', { maxLifetimeSeconds: 15, clockToleranceSeconds: 2 }, { iat: NOW + 2, exp: NOW + 10 }, true],
    ['iat as old as may be', { maxAgeSeconds: 300 }, { iat: NOW - 300, exp: NOW + 1 }, true],
    ['iat too old', { maxAgeSeconds: 300 }, { iat: NOW - 301, exp: NOW + 1 }, expired],
    ['iat too old within the tolerance', { maxAgeSeconds: 300, clockToleranceSeconds: 1 }, { iat: NOW - 301, exp: NOW + 1 }, true],
    ['iat ahead where it counts', { maxAgeSeconds: 300 }, { iat: NOW + 1, exp: NOW + 2 }, expired],
    ['no iat where it counts', { maxAgeSeconds: 300 }, { exp: NOW + 1 }, invalid],
    ['exp wins over a young iat', { maxAgeSeconds: 300 }, { iat: NOW, exp: NOW }, expired]
  ]
  for (const [title, options, given, expected] of cases) {
    const { send } = await testApp(t, options)
    const answer = await send(hmacToken(given))
    if (expected === true) t.equal(answer.statusCode, 200, title)
    else isRefused(t, answer, expected, title)
  }
})

t.test('judges the time again with each request', async (t) => {
  let now = NOW
  const { send } = await testApp(t, { clock: () => now * 1000 })
  const token = hmacToken({ nbf: NOW, exp: NOW + 10 })
  for (const [seconds, status] of [[0, 200], [9, 200], [10, 401], [-1, 401], [0, 200]] as const) {
    now = NOW + seconds
    t.equal((await send(token)).statusCode, status, `at ${seconds}`)
  }
})

t.test('asks for the type where one is named', async (t) => {
  const { send } = await testApp(t, { typ: 'at+jwt' })
  for (const typ of ['at+jwt', 'AT+JWT', 'application/at+jwt']) t.equal((await send(hmacToken(claims, secret, { alg: 'HS256', typ }))).statusCode, 200, typ)
  for (const typ of ['JWT', 'logout+jwt', '', 'at+jwt ', 'text/at+jwt']) isRefused(t, await send(hmacToken(claims, secret, { alg: 'HS256', typ })), invalid, typ)
  isRefused(t, await send(hmacToken(claims, secret, { alg: 'HS256' })), invalid, 'absent')
  isRefused(t, await send(hmacToken(claims, secret, { alg: 'HS256', typ: 5 })), 'ERR_BEARER_JWT_TOKEN_INVALID', 'a number')
})

t.test('asks for required claims as own members', async (t) => {
  const { send } = await testApp(t, { requiredClaims: ['toString', 'jti'] })
  t.equal((await send(hmacToken({ ...claims, toString: 'mine', jti: '1' }))).statusCode, 200)
  for (const given of [{ jti: '1' }, { toString: 'mine' }, { toString: null, jti: '1' }, { toString: 'mine', jti: null }]) {
    isRefused(t, await send(hmacToken({ ...claims, ...given })), invalid, JSON.stringify(given))
  }
})

t.test('knows a tenant by its text, and only by it', async (t) => {
  const { send, identity } = await testApp(t, { tenant: 'company_id' }, { route: '/:company', policy: (guard) => guard.require({ tenantParam: 'company' }) })
  const asTenant = (written: string, tenant: string) => send({ url: `/${encodeURIComponent(tenant)}`, headers: { authorization: `Bearer ${hmacToken(`{"exp":${NOW + 1},"company_id":${written}}`)}` } })
  for (const [written, tenant] of [['100001', '100001'], ['"100001"', '100001'], ['"0100001"', '0100001'], ['"1e5"', '1e5'], ['1e5', '100000'], ['0', '0'], ['"-1"', '-1'], ['9007199254740991', '9007199254740991'], ['"a b"', 'a b']] as const) {
    t.equal((await asTenant(written, tenant)).statusCode, 200, written)
    t.equal(identity().tenant, tenant)
  }
  for (const [written, tenant] of [['"0100001"', '100001'], ['"1e5"', '100000'], ['"100001 "', '100001'], ['100001', '200002']] as const) {
    const answer = await asTenant(written, tenant)
    t.equal(answer.statusCode, 403, `${written} is not ${tenant}`)
    t.equal(answer.json<{ code: string }>().code, 'ERR_GUARD_TENANT_MISMATCH')
  }
  for (const written of ['-1', '-0', '1.5', '1e400', '9007199254740992', '""', 'null', 'true', '[]', '["100001"]', '{}', `"${'1'.repeat(257)}"`]) {
    isRefused(t, await asTenant(written, '100001'), invalid, written)
  }
  isRefused(t, await send({ url: '/100001', headers: { authorization: `Bearer ${hmacToken(claims)}` } }), invalid, 'absent')
})

t.test('reads tenant, subject and scopes as it is told', async (t) => {
  const nested = { ...claims, who: { company: 7 }, client_id: 'erp', roles: ['a', 'b'] }
  const { send, identity } = await testApp(t, {
    tenant: ({ who }) => (who as { company: number }).company, subject: 'client_id', scopes: ({ roles }) => roles as string[]
  })
  const answer = await send(hmacToken(nested))
  t.same(answer.json<{ principal: unknown }>().principal, { tenant: '7', subject: 'erp', scopes: ['a', 'b'] })
  t.ok(Object.isFrozen(identity()) && Object.isFrozen(identity().scopes))
  t.same(identity().keyId, 'live')
  for (const wrong of [{ who: undefined }, { who: { company: {} } }, { client_id: undefined }, { client_id: '' }, { client_id: 5 }, { roles: undefined }, { roles: 'a' }, { roles: [1] }]) {
    isRefused(t, await send(hmacToken({ ...nested, ...wrong })), invalid, JSON.stringify(wrong))
  }
})

t.test('reads scopes as text or as a list', async (t) => {
  const { send, identity } = await testApp(t)
  const read: readonly (readonly [object, readonly string[]])[] = [
    [{}, []], [{ scope: '' }, []], [{ scope: 'a' }, ['a']], [{ scope: ' a  b ' }, ['a', 'b']], [{ scope: ['a', 'b c'] }, ['a', 'b c']], [{ scp: ['a'] }, ['a']], [{ scp: 'a b' }, ['a', 'b']], [{ scope: 'a', scp: 'b' }, ['a']]
  ]
  for (const [given, scopes] of read) {
    t.equal((await send(hmacToken({ ...claims, ...given }))).statusCode, 200)
    t.same(identity().scopes, scopes, JSON.stringify(given))
  }
  for (const scope of [null, 1, true, {}, [1], [['a']], [null]]) isRefused(t, await send(hmacToken({ ...claims, scope, scp: 'a' })), invalid, JSON.stringify(scope))
  const named = await testApp(t, { scopes: 'permissions' })
  t.equal((await named.send(hmacToken({ ...claims, permissions: 'p', scope: 's' }))).statusCode, 200)
  t.same(named.identity().scopes, ['p'])
})

t.test('refuses the token where a reader of the user throws, whatever it throws', async (t) => {
  const readers: readonly (readonly [string, Partial<BearerJwtOptions<unknown>>])[] = [
    ['tenant', { tenant: () => { throw new Error('canary') } }],
    ['identity', { scopes: () => { throw new TypeError('canary') } }],
    ['identity', { identity: ({ missing }) => (missing as { name: string }).name }]
  ]
  for (const [reason, options] of readers) {
    const { send, decisions } = await testApp(t, options)
    isRefused(t, await send(hmacToken(claims)), invalid)
    t.equal(decisions.at(-1)?.reason, reason)
  }
  const own = new AuthError({ code: 'ERR_OWN', outcome: 'forbidden', message: 'own' })
  const { send } = await testApp(t, { identity: () => { throw own } })
  const answer = await send(hmacToken(claims))
  t.same([answer.statusCode, answer.json<{ code: string }>().code], [403, 'ERR_OWN'])
})

t.test('takes an async reader for what it is, a mistake of the server', async (t) => {
  const later = async (): Promise<string> => { throw new Error('canary') }
  for (const options of [{ identity: later }, { tenant: later }, { scopes: later }] as unknown as Partial<BearerJwtOptions<unknown>>[]) {
    const { send } = await testApp(t, options)
    const answer = await send(hmacToken(claims))
    t.same([answer.statusCode, answer.json<{ code: string }>().code], [503, 'ERR_GUARD_JUDGE_FAILED'])
  }
  await new Promise((resolve) => setImmediate(resolve))
})

t.test('hands over keys while both are live: the old one until its end, the new one from its beginning', async (t) => {
  let now = NOW
  const at = (seconds: number): Date => new Date((NOW + seconds) * 1000)
  const { send, decisions } = await testApp(t, {
    clock: () => now * 1000,
    keys: [{ key: secret, id: 'old', notAfter: at(100) }, { key: otherSecret, id: 'new', notBefore: at(50) }]
  })
  const far = { exp: NOW + 1000 }
  const cases = [[0, 200, 401], [49, 200, 401], [50, 200, 200], [99, 200, 200], [100, 401, 200], [900, 401, 200]] as const
  for (const [seconds, old, fresh] of cases) {
    now = NOW + seconds
    for (const kid of [true, false]) {
      const answers = [await send(hmacToken(far, secret, { alg: 'HS256', ...kid && { kid: 'old' } })), await send(hmacToken(far, otherSecret, { alg: 'HS256', ...kid && { kid: 'new' } }))]
      t.same(answers.map(({ statusCode }) => statusCode), [old, fresh], `${seconds} s, ${kid ? 'with' : 'without'} kid`)
      for (const answer of answers) if (answer.statusCode === 401) isRefused(t, answer, 'ERR_BEARER_JWT_TOKEN_INVALID')
    }
  }
  t.same(new Set(decisions.filter(({ outcome }) => outcome === 'passed').map(({ matched }) => matched)), new Set(['old', 'new']), 'events say which key matched')
})

t.test('picks keys by id: a named key stands alone, an unnamed one fits every id', async (t) => {
  const header = (kid: string | undefined) => ({ alg: 'HS256', ...kid !== undefined && { kid } })
  const third = randomBytes(32)
  const { send, identity } = await testApp(t, { keys: [{ key: secret, id: 'a' }, { key: otherSecret, id: 'b' }, { key: third }] })
  for (const [kid, key, id] of [['a', secret, 'a'], ['b', otherSecret, 'b'], [undefined, otherSecret, 'b'], [undefined, third, undefined], ['zzz', third, undefined], ['', third, undefined]] as const) {
    t.equal((await send(hmacToken(claims, key, header(kid)))).statusCode, 200, `${kid}`)
    t.equal(identity().keyId, id)
  }
  for (const [kid, key] of [['a', otherSecret], ['b', secret], ['zzz', secret], ['A', secret], ['', secret], ['__proto__', secret]] as const) {
    isRefused(t, await send(hmacToken(claims, key, header(kid))), 'ERR_BEARER_JWT_TOKEN_INVALID', `kid ${kid}`)
  }
  for (const kid of [null, ['a'], 1, {}]) isRefused(t, await send(hmacToken(claims, secret, { alg: 'HS256', kid })), 'ERR_BEARER_JWT_TOKEN_INVALID', JSON.stringify(kid))
})

const byTenant: Partial<BearerJwtOptions<unknown>> = { algorithms: ['HS256'], tenant: 'company_id' }
const ofTenant = hmacToken({ ...claims, company_id: 100001 })

t.test('asks a resolver with hints that nobody has signed for yet', async (t) => {
  const asked: KeyHints[] = []
  const keys: KeyResolver = (hints) => { asked.push(hints); return undefined }
  const { send } = await testApp(t, { ...byTenant, keyCacheSeconds: 0, keys })
  const sign = (given: object | string, header: object): string => hmacToken(given, 'whatever', { alg: 'HS256', ...header })
  await send(sign({ iss: us, company_id: 100001 }, { kid: 'k1' }))
  await send(sign({ iss: [us], company_id: '0100001' }, {}))
  await send(sign({ iss: 5, company_id: { evil: true } }, {}))
  await send(sign('{"__proto__":{"company_id":"5","iss":"x"}}', {}))
  t.same(asked, [
    { algorithm: 'HS256', keyId: 'k1', issuer: us, tenant: '100001' },
    { algorithm: 'HS256', keyId: undefined, issuer: undefined, tenant: '0100001' },
    { algorithm: 'HS256', keyId: undefined, issuer: undefined, tenant: undefined },
    { algorithm: 'HS256', keyId: undefined, issuer: undefined, tenant: undefined }
  ])
  t.ok(asked.every(Object.isFrozen))
  for (const wrong of [hmacToken(claims, secret, { alg: 'HS512' }), 'no.token', `${encode({ alg: 'none' })}.${encode(claims)}.`]) await send(wrong)
  t.equal(asked.length, 4, 'what is malformed or of another algorithm is refused before')
})

t.test('gives a resolver no tenant where the reader can\'t find one, and says no more to the client than of a wrong signature', async (t) => {
  const asked: KeyHints[] = []
  const { send } = await testApp(t, { algorithms: ['HS256'], keyCacheSeconds: 0, tenant: () => { throw new Error('no tenant') }, keys: (hints) => { asked.push(hints); return { key: secret } } })
  isRefused(t, await send(hmacToken(claims, otherSecret)), 'ERR_BEARER_JWT_TOKEN_INVALID')
  isRefused(t, await send(hmacToken(claims)), invalid)
  t.same(asked.map(({ tenant }) => tenant), [undefined, undefined])
})

t.test('takes what a resolver finds: one key or several, at once or later', async (t) => {
  const right = { key: secret, id: 'found' }
  const found: readonly KeyResolver[] = [
    () => right,
    () => [right],
    () => [{ key: otherSecret }, right],
    async () => right,
    async () => [{ key: otherSecret, id: 'other' }, right],
    ({ tenant }) => tenant === '100001' ? right : undefined
  ]
  for (const keys of found) {
    const { send, identity } = await testApp(t, { ...byTenant, keys })
    t.equal((await send(ofTenant)).statusCode, 200, String(keys))
    t.equal(identity().keyId, 'found')
  }
  const { send } = await testApp(t, { keys: async () => ({ key: p256.publicKey }), algorithms: ['ES256', 'RS256'] })
  t.equal((await send(signedToken(claims, p256.privateKey, 'ES256'))).statusCode, 200)
  t.equal((await send(signedToken(claims, rsa.privateKey, 'RS256'))).statusCode, 401)
})

t.test('judges times and claims alike, whoever found the key', async (t) => {
  const { send } = await testApp(t, { keys: () => ({ key: secret }), algorithms: ['HS256'], audience: api })
  for (const given of [{ exp: NOW }, { exp: NOW + 9, nbf: NOW + 2 }]) isRefused(t, await send(hmacToken({ aud: api, ...given })), expired, JSON.stringify(given))
  for (const given of [{ exp: `${NOW + 9}` }, { exp: NOW + 9, aud: 'other' }]) isRefused(t, await send(hmacToken({ aud: api, ...given })), invalid, JSON.stringify(given))
})

t.test('answers an unknown key exactly as a wrong signature', async (t) => {
  const answers: object[] = []
  for (const keys of [() => ({ key: otherSecret }), () => undefined, () => [], () => null, async () => undefined, async () => []] as KeyResolver[]) {
    const { send, decisions } = await testApp(t, { ...byTenant, keys })
    const answer = await send(ofTenant)
    isRefused(t, answer, 'ERR_BEARER_JWT_TOKEN_INVALID', String(keys))
    answers.push({ body: answer.body, challenge: answer.headers['www-authenticate'], length: answer.headers['content-length'] })
    t.equal(decisions.at(-1)?.reason, answers.length === 1 ? 'signature' : 'unknown-key', 'only the event knows')
  }
  t.same(answers, Array.from(answers, () => answers[0]))
})

t.test('is unavailable where a resolver gives something that is no key to be trusted', async (t) => {
  const short = Buffer.from('short')
  const garbage: readonly unknown[] = [
    '', 'text', 0, true, {}, { key: '' }, { key: 'text' }, { key: undefined }, { key: new Uint8Array(0) }, Buffer.alloc(0), secret, { key: short }, [{ key: short }], [{ key: secret }, undefined], [null],
    { key: secret, algorithm: 'HS512' }, { key: rsa.publicKey }, { key: rsa.privateKey }, { key: { kty: 'oct', k: '' } }, { key: secret, kid: 'x' }, { key: Buffer.from('-----BEGIN PUBLIC KEY-----\nMIIBIjAN') }, [[{ key: secret }]]
  ]
  for (const answer of garbage) {
    for (const keys of [() => answer, async () => answer] as KeyResolver[]) {
      const { send, decisions, handlerRuns } = await testApp(t, { ...byTenant, keys })
      for (const token of [ofTenant, hmacToken({ ...claims, company_id: 100001 }, ''), hmacToken({ ...claims, company_id: 100001 }, short)]) {
        isRefused(t, await send(token), 'ERR_BEARER_JWT_KEYS_UNAVAILABLE')
        t.equal(decisions.at(-1)?.reason, 'resolved-key')
      }
      t.equal(handlerRuns(), 0)
    }
  }
})

t.test('is unavailable where a resolver throws or rejects, whatever a request makes it throw', async (t) => {
  const failure = new AuthError({ code: 'ERR_FORGED', outcome: 'rejected', message: 'canary' })
  for (const thrown of [new Error('connect ECONNREFUSED jwks.internal:443'), new TypeError('x'), failure, 'text', undefined, null] as readonly Error[]) {
    for (const keys of [() => { throw thrown }, async () => { throw thrown }, () => ({ then: () => { throw thrown } })] as unknown as KeyResolver[]) {
      const { send, decisions } = await testApp(t, { ...byTenant, keys })
      const answer = await send(ofTenant)
      isRefused(t, answer, 'ERR_BEARER_JWT_KEYS_UNAVAILABLE')
      t.notMatch(answer.body, /internal|canary/)
      t.same([decisions.at(-1)?.reason, decisions.at(-1)?.cause], ['resolver', thrown])
    }
  }
})

t.test('is unavailable where a resolver never settles', async (t) => {
  const { send } = await testApp(t, { ...byTenant, keys: () => new Promise(() => undefined) }, { guardOptions: { judgeTimeoutMs: 20 } })
  const answer = await send(ofTenant)
  t.same([answer.statusCode, answer.json<{ code: string }>().code, answer.headers['retry-after']], [503, 'ERR_GUARD_JUDGE_FAILED', '1'])
})

t.test('counts the lifetimes of keys that a resolver gives', async (t) => {
  let now = NOW
  const { send } = await testApp(t, { ...byTenant, clock: () => now * 1000, keys: () => ({ key: secret, notAfter: new Date((NOW + 5) * 1000) }) })
  t.equal((await send(ofTenant)).statusCode, 200)
  now = NOW + 5
  isRefused(t, await send(ofTenant), 'ERR_BEARER_JWT_TOKEN_INVALID')
})

t.test('tells what is no claims from what is wrongly signed, in events alone', async (t) => {
  for (const keys of [[{ key: secret }], () => ({ key: secret })] satisfies BearerJwtOptions['keys'][]) {
    const { send, decisions } = await testApp(t, { keys, algorithms: ['HS256'] })
    const bodies = []
    for (const payload of ['"text"', '[]', 'null', '{', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])]) bodies.push((await send(hmacToken(payload))).json<{ code: string }>())
    t.same(decisions.map(({ reason }) => reason), bodies.map(() => 'malformed'))
    bodies.push((await send(hmacToken(claims, otherSecret))).json())
    t.equal(decisions.at(-1)?.reason, 'signature')
    for (const body of bodies) t.same(body, bodies[0])
  }
})

const otherRsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const otherEc = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const otherP521 = generateKeyPairSync('ec', { namedCurve: 'P-521' })

t.test('spends as much on an unknown key as on a wrong signature', async (t) => {
  const checks = countChecks(t)
  const sign: Readonly<Record<string, (header: object) => string>> = {
    HS256: (header) => hmacToken(claims, otherSecret, { alg: 'HS256', ...header }),
    RS256: (header) => signedToken(claims, otherRsa.privateKey, 'RS256', header),
    PS384: (header) => signedToken(claims, otherRsa.privateKey, 'PS384', header),
    ES256: (header) => signedToken(claims, otherEc.privateKey, 'ES256', header),
    ES512: (header) => signedToken(claims, otherP521.privateKey, 'ES512', header)
  }
  const right = { HS256: { key: secret }, RS256: { key: rsa.publicKey }, PS384: { key: rsa.publicKey, algorithm: 'PS384' }, ES256: { key: p256.publicKey }, ES512: { key: p521.publicKey } } as const
  for (const [algorithm, key] of Object.entries(right)) {
    const keys: readonly BearerJwtOptions['keys'][] = [[{ ...key, id: 'a' }], ({ keyId }) => keyId === 'a' ? key : undefined]
    for (const each of keys) {
      const { send, decisions } = await testApp(t, { keys: each!, algorithms: [algorithm as Algorithm] })
      const counted: number[] = []
      for (const kid of ['a', 'b']) {
        const token = sign[algorithm]!({ kid })
        checks()
        await send(token)
        counted.push(checks())
      }
      t.same(decisions.map(({ reason }) => reason), ['signature', 'unknown-key'])
      t.same(counted, [1, 1], `${algorithm}, ${typeof each}`)
    }
  }
})

/** How many signatures have been checked since it was asked last. */
function countChecks (t: Test): () => number {
  const macs = countMacs(t)
  const prototype = Object.getPrototypeOf(createVerify('sha256')) as Record<'verify', (...args: unknown[]) => unknown>
  const { verify } = prototype
  let verified = 0
  prototype.verify = function (...args) { verified++; return verify.apply(this, args) }
  t.teardown(() => { prototype.verify = verify })
  return () => {
    const count = macs() + verified
    verified = 0
    return count
  }
}
