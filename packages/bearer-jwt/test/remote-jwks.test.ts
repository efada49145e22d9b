import { generateKeyPairSync, randomUUID, type KeyObject } from 'node:crypto'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { AuthError, isOptionsError } from '@sallyport/guard'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { bearerJwt, keySourceChannel, remoteJwks, type BearerJwtOptions, type RemoteJwks, type RemoteJwksOptions } from '../src/index.js'
import { isRefused, testApp, type TestApp } from './fixtures/app.js'
import { startIssuer, trustingFetch, type Issuer, type IssuerAnswer } from './fixtures/issuer.js'
import { claims, ed25519, encode, hmacToken, NOW, p256, p384, rsa, secret, signedToken } from './fixtures/tokens.js'

const invalid = 'ERR_BEARER_JWT_TOKEN_INVALID'
const unavailable = 'ERR_BEARER_JWT_KEYS_UNAVAILABLE'
const far = { ...claims, exp: NOW + 1_000_000 }

const jwkOf = (key: KeyObject, given: object = {}): object => ({ ...key.export({ format: 'jwk' }), ...given })
const rsaJwk = jwkOf(rsa.publicKey, { kid: 'a', alg: 'RS256' })
const ecJwk = jwkOf(p256.publicKey, { kid: 'b', alg: 'ES256', use: 'sig' })
/** A token of its own each time, so that none is known. */
const rsaToken = (given: object = {}, header: object = { kid: 'a' }) => signedToken({ ...far, jti: randomUUID(), ...given }, rsa.privateKey, 'RS256', header)
const ecToken = (given: object = {}, header: object = { kid: 'b' }) => signedToken({ ...far, jti: randomUUID(), ...given }, p256.privateKey, 'ES256', header)

interface RemoteApp extends TestApp { readonly issuer: Issuer, readonly moved: { now: number } }

/** An app that trusts one issuer on this machine, and a clock that the test moves. */
async function remoteApp (t: Test, remote: RemoteJwksOptions = {}, options: Partial<BearerJwtOptions> = {}): Promise<RemoteApp> {
  const issuer = await startIssuer(t, rsaJwk)
  const moved = { now: NOW }
  const test = await testApp(t, { algorithms: ['RS256', 'ES256'], keys: remoteJwks(issuer.url, { fetch: trustingFetch, ...remote }), clock: () => moved.now * 1000, ...options })
  return { ...test, issuer, moved }
}

const countOf = ({ requests }: Issuer): number => requests.splice(0).length

t.test('fetches keys with the first token, by one request for all who wait, and keeps them for cacheSeconds', async (t) => {
  const { app, send, issuer, moved } = await remoteApp(t)
  await app.ready()
  t.equal(countOf(issuer), 0, 'nothing is fetched at registration')
  const answers = await Promise.all(Array.from({ length: 50 }, () => send(rsaToken())))
  t.ok(answers.every(({ statusCode }) => statusCode === 200))
  t.same(issuer.requests.splice(0), ['/keys'])
  for (const header of [{ kid: 'a' }, {}]) t.equal((await send(rsaToken({}, header))).statusCode, 200)
  moved.now += 599
  t.equal((await send(rsaToken())).statusCode, 200)
  t.equal(countOf(issuer), 0)
  moved.now += 1
  t.ok((await Promise.all(Array.from({ length: 50 }, () => send(rsaToken())))).every(({ statusCode }) => statusCode === 200))
  t.equal(countOf(issuer), 1)
})

t.test('finds a key that is new when its id is first seen, at most once in each cooldown', async (t) => {
  const { send, issuer, moved } = await remoteApp(t)
  t.equal((await send(rsaToken())).statusCode, 200)
  issuer.publish(ecJwk)
  isRefused(t, await send(ecToken()), invalid, 'within the cooldown')
  moved.now += 30
  t.equal((await send(ecToken())).statusCode, 200)
  isRefused(t, await send(rsaToken()), invalid, 'and the one that is gone is gone')
  t.equal(countOf(issuer), 2)
})

t.test('fetches once per cooldown for 10,000 made-up key ids, while valid tokens pass', async (t) => {
  const { send, issuer, moved, handlerRuns } = await remoteApp(t)
  const tail = `${encode(far)}.${rsaToken().split('.')[2]}`
  t.equal((await send(rsaToken())).statusCode, 200)
  countOf(issuer)
  const known = rsaToken()
  for (let round = 0; round < 4; round++) {
    for (let batch = 0; batch < 25; batch++) {
      const answers = await Promise.all([rsaToken(), known, ...Array.from({ length: 100 }, () => `${encode({ alg: 'RS256', kid: randomUUID() })}.${tail}`)].map(send))
      const passed = answers.filter(({ statusCode }) => statusCode === 200).length
      if (passed !== 2) t.equal(passed, 2, `the valid ones, in batch ${batch}`)
      if (batch === 0) for (const answer of answers.slice(2, 4)) isRefused(t, answer, invalid)
    }
    t.equal(countOf(issuer), round === 0 ? 0 : 1, `cooldown ${round}`)
    moved.now += 30
  }
  t.equal(handlerRuns(), 1 + 4 * 25 * 2)
})

const failures: Readonly<Record<string, IssuerAnswer>> = {
  'an error': { status: 500, body: '{"keys":[]}' },
  'not found': { status: 404 },
  'another success': { status: 203, body: JSON.stringify({ keys: [rsaJwk] }) },
  'a redirect': { status: 302, headers: { location: '/elsewhere' }, body: JSON.stringify({ keys: [rsaJwk] }) },
  'no JSON': { body: '<html>' },
  'nothing': { body: '' },
  'null': { body: 'null' },
  'a list': { body: JSON.stringify([rsaJwk]) },
  'no keys': { body: '{}' },
  'keys that are no list': { body: '{"keys":{"0":{}}}' },
  'too much': { body: JSON.stringify({ keys: [rsaJwk], pad: 'x'.repeat(524_288) }) },
  'silence': { fault: 'silence' },
  'half an answer': { fault: 'stall' },
  'a reset': { fault: 'reset' }
}

t.test('is unavailable while keys can\'t be fetched, and recovers by itself', async (t) => {
  for (const [title, answer] of Object.entries(failures)) {
    const { send, issuer, moved, decisions, handlerRuns } = await remoteApp(t, { fetchTimeoutMs: 500 })
    issuer.answer = answer
    const startedAt = performance.now()
    for (let i = 0; i < 3; i++) isRefused(t, await send(rsaToken()), unavailable, title)
    t.ok(performance.now() - startedAt < 3_000, `${title}: within the time limit`)
    t.same([decisions.at(-1)?.reason, decisions.at(-1)?.cause instanceof Error], ['key-set', true], title)
    t.same(issuer.requests.splice(0), ['/keys'], `${title}: one request in a cooldown, and none elsewhere`)
    t.equal(handlerRuns(), 0)
    issuer.publish(rsaJwk)
    moved.now += 30
    t.equal((await send(rsaToken())).statusCode, 200, `${title}: recovers`)
  }
})

t.test('asks fetch to refuse redirects, and refuses what was redirected all the same', async (t) => {
  const asked: (RequestInit | undefined)[] = []
  const { send } = await remoteApp(t, {
    fetch: async (_url, init) => {
      asked.push(init)
      return Object.defineProperty(Response.json({ keys: [rsaJwk] }), 'redirected', { value: true })
    }
  })
  isRefused(t, await send(rsaToken()), unavailable)
  t.equal(asked[0]?.redirect, 'error')
  t.ok(asked[0]?.signal instanceof AbortSignal)
})

t.test('waits no longer than fetchTimeoutMs for a fetch that minds no signal', async (t) => {
  const stuck: readonly (typeof fetch)[] = [() => new Promise(() => undefined), async () => new Response(new ReadableStream())]
  for (const fetch of stuck) {
    let isStuck = true
    const { send, moved } = await remoteApp(t, { fetchTimeoutMs: 30, fetch: async (...given) => isStuck ? fetch(...given) : Response.json({ keys: [rsaJwk] }) })
    isRefused(t, await send(rsaToken()), unavailable)
    isStuck = false
    moved.now += 30
    t.equal((await send(rsaToken())).statusCode, 200, 'and recovers')
  }
})

t.test('trusts no certificate that the machine does not know', async (t) => {
  const issuer = await startIssuer(t, rsaJwk)
  const { send, decisions } = await testApp(t, { algorithms: ['RS256'], keys: remoteJwks(issuer.url) })
  isRefused(t, await send(rsaToken()), unavailable)
  t.match((decisions.at(-1)?.cause as { cause: unknown }).cause, { code: /SELF_SIGNED|UNABLE_TO_VERIFY/ })
  t.equal(countOf(issuer), 0)
})

t.test('says that it is unavailable by where the failure arose, whatever fetch throws', async (t) => {
  const forged = new AuthError({ code: 'ERR_FORGED', outcome: 'rejected', message: 'canary' })
  for (const thrown of [forged, new TypeError('fetch failed'), 'canary', undefined, null] as readonly Error[]) {
    for (const fetch of [() => { throw thrown }, async () => { throw thrown }] as readonly (typeof globalThis.fetch)[]) {
      const { send } = await remoteApp(t, { fetch })
      const answer = await send(rsaToken())
      isRefused(t, answer, unavailable)
      t.notMatch(answer.body, 'canary')
    }
  }
})

t.test('refuses what is wrong whatever the keys are, before anything is fetched', async (t) => {
  const { send, issuer } = await remoteApp(t)
  issuer.answer = { fault: 'reset' }
  for (const token of ['nonsense', 'a.b.c', hmacToken(far, secret), `${encode({ alg: 'none' })}.${encode(far)}.`, signedToken(far, rsa.privateKey, 'PS256', { kid: 'a' }), rsaToken({}, { kid: ['a'] }), rsaToken({}, { kid: 'a', crit: ['x'] })]) {
    isRefused(t, await send(token), invalid, token.slice(0, 24))
  }
  t.equal(countOf(issuer), 0)
})

t.test('lets no header of a token choose where keys come from', async (t) => {
  const attacker = await startIssuer(t, jwkOf(p384.publicKey, { kid: 'evil' }))
  const { send, issuer } = await remoteApp(t)
  const jwk = p256.publicKey.export({ format: 'jwk' })
  t.equal((await send(rsaToken())).statusCode, 200)
  countOf(issuer)
  for (const header of [{ jku: attacker.url }, { x5u: attacker.url }, { jwk }, { jku: attacker.url, kid: attacker.url }, { x5c: ['MIIB'], jwk }, { iss: attacker.url }]) {
    isRefused(t, await send(ecToken({}, { kid: 'a', ...header })), invalid, JSON.stringify(header).slice(0, 24))
    isRefused(t, await send(ecToken({ iss: attacker.url }, { kid: 'a', ...header })), invalid)
    t.equal((await send(rsaToken({}, { ...header, kid: 'a' }))).statusCode, 200, 'and they do no harm where the signature is right')
  }
  t.same([countOf(attacker), countOf(issuer)], [0, 0])
})

t.test('leaves out keys of a set that may not be used, and uses the others', async (t) => {
  const weak = generateKeyPairSync('rsa', { modulusLength: 1024 })
  const other = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const unusable: readonly (readonly [string, unknown, string])[] = [
    ['a secret', { kty: 'oct', k: secret.toString('base64url'), kid: 'x', alg: 'HS256' }, hmacToken(far, secret, { alg: 'HS256', kid: 'x' })],
    ['a secret for another algorithm', { kty: 'oct', k: secret.toString('base64url'), kid: 'x', alg: 'RS256' }, hmacToken(far, secret, { alg: 'RS256', kid: 'x' })],
    ['a weak key', jwkOf(weak.publicKey, { kid: 'x', alg: 'RS256' }), signedToken(far, weak.privateKey, 'RS256', { kid: 'x' })],
    ['a key for encryption', jwkOf(other.publicKey, { kid: 'x', use: 'enc' }), signedToken(far, other.privateKey, 'RS256', { kid: 'x' })],
    ['a key for other operations', jwkOf(other.publicKey, { kid: 'x', key_ops: ['wrapKey'] }), signedToken(far, other.privateKey, 'RS256', { kid: 'x' })],
    ['a key for another algorithm', jwkOf(other.publicKey, { kid: 'x', alg: 'PS256' }), signedToken(far, other.privateKey, 'RS256', { kid: 'x' })],
    ['a key for an algorithm that is no signature', jwkOf(other.publicKey, { kid: 'x', alg: 'RSA-OAEP' }), signedToken(far, other.privateKey, 'RS256', { kid: 'x' })],
    ['a private key', jwkOf(other.privateKey, { kid: 'x' }), signedToken(far, other.privateKey, 'RS256', { kid: 'x' })],
    ['a curve that is not asked for', jwkOf(p384.publicKey, { kid: 'x' }), signedToken(far, p384.privateKey, 'ES384', { kid: 'x' })],
    ['an edwards curve', jwkOf(ed25519.publicKey, { kid: 'x' }), signedToken(far, ed25519.privateKey, 'EdDSA', { kid: 'x' })],
    ...[null, 1, 'x', [], {}, { kty: 'RSA' }, { kty: 1 }, { kty: 'nonsense', alg: null }].map((entry) => [JSON.stringify(entry), entry, rsaToken({}, { kid: 'x' })] as const)
  ]
  for (const [title, entry, token] of unusable) {
    const { send, issuer } = await remoteApp(t)
    issuer.publish(entry, rsaJwk, entry)
    isRefused(t, await send(token), invalid, title)
    t.equal((await send(rsaToken())).statusCode, 200, `beside ${title}`)
  }
})

t.test('uses a key that names no algorithm for the first of the pinned ones that fits it', async (t) => {
  const bare = [jwkOf(rsa.publicKey, { kid: 'a' }), jwkOf(p256.publicKey, { kid: 'b' })]
  const all = (['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'] as const).map((alg) => [alg, signedToken(far, rsa.privateKey, alg, { kid: 'a' })] as const)
  for (const [algorithms, right] of [[['RS256', 'ES256'], 'RS256'], [['PS256'], 'PS256'], [['ES256', 'PS512', 'RS256'], 'PS512']] as const) {
    const { send, issuer } = await remoteApp(t, {}, { algorithms })
    issuer.publish(...bare)
    for (const [alg, token] of all) {
      const answer = await send(token)
      if (alg === right) t.equal(answer.statusCode, 200, alg)
      else isRefused(t, answer, invalid, `${alg} where ${algorithms.join()} are pinned`)
    }
    for (const alg of ['HS256', 'HS384']) isRefused(t, await send(hmacToken(far, rsa.publicKey.export({ type: 'spki', format: 'pem' }), { alg, kid: 'a' })), invalid)
  }
})

t.test('takes keys without an id for every id, and several of one id in turn', async (t) => {
  const other = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const { send, issuer } = await remoteApp(t)
  issuer.publish(jwkOf(other.publicKey, { kid: 'a' }), jwkOf(rsa.publicKey, { kid: 'a' }), jwkOf(p256.publicKey))
  t.equal((await send(rsaToken())).statusCode, 200)
  for (const header of [{}, { kid: 'unknown' }]) t.equal((await send(ecToken({}, header))).statusCode, 200)
})

const us = 'https://us.example/'
const them = 'https://them.example/'

/** Two issuers whose keys have the same id. */
async function twoIssuers (t: Test, options: Partial<BearerJwtOptions> = {}) {
  const [ours, theirs] = [await startIssuer(t, jwkOf(rsa.publicKey, { kid: 'same', alg: 'RS256' })), await startIssuer(t, jwkOf(p256.publicKey, { kid: 'same', alg: 'ES256' }))]
  const test = await testApp(t, {
    keys: undefined!,
    issuers: {
      [us]: { keys: remoteJwks(ours.url, { fetch: trustingFetch }), algorithms: ['RS256', 'ES256'], audience: 'ours' },
      [them]: { keys: remoteJwks(theirs.url, { fetch: trustingFetch }), algorithms: ['RS256', 'ES256'], typ: 'at+jwt' },
      'listed': { keys: [{ key: secret }] }
    },
    ...options
  })
  return { ...test, ours, theirs }
}

t.test('keeps issuers apart, though their keys have the same id', async (t) => {
  const { send, identity, ours, theirs } = await twoIssuers(t)
  const same = { kid: 'same' }
  t.equal((await send(rsaToken({ iss: us, aud: 'ours' }, same))).statusCode, 200)
  t.same([countOf(ours), countOf(theirs)], [1, 0])
  t.equal((await send(ecToken({ iss: them }, { ...same, typ: 'at+jwt' }))).statusCode, 200)
  t.same([countOf(ours), countOf(theirs)], [0, 1])
  t.equal((await send(hmacToken({ ...far, iss: 'listed' }))).statusCode, 200)
  t.equal(identity().claims['iss'], 'listed')
  const crossed = [ecToken({ iss: us, aud: 'ours' }, same), rsaToken({ iss: them }, { ...same, typ: 'at+jwt' }), hmacToken({ ...far, iss: us, aud: 'ours' }), rsaToken({ iss: 'listed' }, same)]
  for (const token of crossed) isRefused(t, await send(token), invalid)
  const claimed = [rsaToken({ iss: us }, same), rsaToken({ iss: us, aud: 'theirs' }, same), ecToken({ iss: them }, same), ecToken({ iss: them }, { ...same, typ: 'JWT' })]
  for (const token of claimed) isRefused(t, await send(token), 'ERR_BEARER_JWT_CLAIMS_INVALID')
})

t.test('asks nobody for a token of an issuer that it does not know', async (t) => {
  const attacker = await startIssuer(t, rsaJwk)
  const { send, decisions, ours, theirs } = await twoIssuers(t)
  for (const iss of [attacker.url, 'https://us.example', `${us} `, `${us}/`, us.toUpperCase(), '', undefined, null, [us], [us, them], { toString: us }, '__proto__', 'constructor', 'toString']) {
    isRefused(t, await send(rsaToken({ iss, aud: 'ours' }, { kid: 'same' })), invalid, JSON.stringify(iss))
    t.equal(decisions.at(-1)?.reason, 'issuer')
  }
  t.same([countOf(attacker), countOf(ours), countOf(theirs)], [0, 0, 0])
})

t.test('holds one issuer\'s outage from the tokens of another', async (t) => {
  const { send, ours } = await twoIssuers(t)
  ours.answer = { fault: 'reset' }
  isRefused(t, await send(rsaToken({ iss: us, aud: 'ours' }, { kid: 'same' })), unavailable)
  t.equal((await send(ecToken({ iss: them }, { kid: 'same', typ: 'at+jwt' }))).statusCode, 200)
})

t.test('lives on the last good keys in an outage, says so, and for no longer than staleIfErrorSeconds', async (t) => {
  const events: Record<string, unknown>[] = []
  const listen = (event: unknown): void => { events.push(event as Record<string, unknown>) }
  subscribe(keySourceChannel, listen)
  t.teardown(() => unsubscribe(keySourceChannel, listen))
  t.equal(keySourceChannel, 'sallyport:key-source')
  const { send, issuer, moved } = await remoteApp(t, { cacheSeconds: 100, staleIfErrorSeconds: 200, cooldownSeconds: 10 })
  const known = rsaToken()
  t.equal((await send(known)).statusCode, 200)
  issuer.answer = { status: 503 }
  moved.now = NOW + 99
  t.equal((await send(known)).statusCode, 200)
  t.same([countOf(issuer), events.length], [1, 0], 'nobody has noticed yet')
  for (const seconds of [100, 105, 299]) {
    moved.now = NOW + seconds
    for (const token of [known, rsaToken()]) t.equal((await send(token)).statusCode, 200, `after ${seconds} s`)
  }
  t.equal(countOf(issuer), 2, 'one request in each cooldown')
  t.equal(events.length, 6)
  t.match(events[0], { type: 'stale-keys', url: issuer.url, ageSeconds: 100, cause: { message: 'the key set answered 503' } })
  t.ok(Object.isFrozen(events[0]))
  moved.now = NOW + 300
  for (const token of [known, rsaToken()]) isRefused(t, await send(token), unavailable)
  moved.now = NOW + 320
  isRefused(t, await send(ecToken()), unavailable, 'for tokens of whatever key')
  issuer.publish(rsaJwk)
  isRefused(t, await send(known), unavailable, 'within the cooldown')
  moved.now = NOW + 330
  events.length = 0
  for (const token of [known, rsaToken()]) t.equal((await send(token)).statusCode, 200, 'and recovers')
  t.equal(events.length, 0)
})

t.test('takes stale keys not at all with staleIfErrorSeconds: 0', async (t) => {
  const { send, issuer, moved } = await remoteApp(t, { cacheSeconds: 100, staleIfErrorSeconds: 0 })
  const known = rsaToken()
  t.equal((await send(known)).statusCode, 200)
  issuer.answer = { fault: 'reset' }
  moved.now += 99
  t.equal((await send(known)).statusCode, 200)
  moved.now += 1
  isRefused(t, await send(known), unavailable)
})

t.test('keeps good keys when a made-up key id meets an outage', async (t) => {
  const { send, issuer, moved } = await remoteApp(t)
  t.equal((await send(rsaToken())).statusCode, 200)
  issuer.answer = { fault: 'reset' }
  moved.now += 60
  isRefused(t, await send(rsaToken({}, { kid: 'made-up' })), invalid)
  t.equal((await send(rsaToken())).statusCode, 200)
})

t.test('takes no key for fresh that seems to come from ahead, since the clock was set back', async (t) => {
  const { send, issuer, moved } = await remoteApp(t)
  moved.now = NOW + 50_000
  const token = rsaToken()
  t.equal((await send(token)).statusCode, 200)
  moved.now = NOW
  issuer.publish(ecJwk)
  isRefused(t, await send(token), invalid, 'fetched anew at once, and the key is gone')
  t.equal((await send(ecToken())).statusCode, 200)
  t.equal(countOf(issuer), 2)
  issuer.answer = { status: 503 }
  moved.now = NOW - 50_000
  isRefused(t, await send(ecToken()), unavailable, 'keys of no known age are not used in an outage')
})

t.test('never waits for keys that it has', async (t) => {
  const { send, issuer, moved } = await remoteApp(t, { fetchTimeoutMs: 500 })
  t.equal((await send(rsaToken())).statusCode, 200)
  issuer.answer = { fault: 'silence' }
  moved.now += 60
  const waiting = send(rsaToken({}, { kid: 'made-up' }))
  const startedAt = performance.now()
  t.equal((await send(rsaToken())).statusCode, 200)
  t.ok(performance.now() - startedAt < 300)
  isRefused(t, await waiting, invalid)
})

t.test('names the option of a remote set or an issuer, and the rule that is broken', async (t) => {
  const url = 'https://issuer.example/keys'
  const made: readonly (readonly [() => RemoteJwks, string, RegExp])[] = [
    ...['http://issuer.example/', 'https://user@issuer.example/', 'https://u:p@issuer.example/', 'https://issuer.example/#a', 'issuer.example', '', 'file:///etc/passwd', 'data:application/json,{}'].map((wrong) => [() => remoteJwks(wrong), 'remoteJwks().url', /must be an https: address/] as const),
    [() => remoteJwks(url, { cacheSeconds: 0 }), 'remoteJwks().cacheSeconds', /1 or more/],
    [() => remoteJwks(url, { cooldownSeconds: 0 }), 'remoteJwks().cooldownSeconds', /1 to 600/],
    [() => remoteJwks(url, { cacheSeconds: 20, cooldownSeconds: 21 }), 'remoteJwks().cooldownSeconds', /1 to 20/],
    [() => remoteJwks(url, { fetchTimeoutMs: 60_001 }), 'remoteJwks().fetchTimeoutMs', /1 to 60000/],
    [() => remoteJwks(url, { staleIfErrorSeconds: -1 }), 'remoteJwks().staleIfErrorSeconds', /0 or more/],
    [() => remoteJwks(url, { fetch: 1 as unknown as typeof fetch }), 'remoteJwks().fetch', /must be a function/],
    [() => remoteJwks(url, { timeout: 1 } as object), 'remoteJwks().timeout', /is unknown/]
  ]
  for (const [make, option, rule] of made) t.throws(make, { name: 'OptionsError', option, message: rule }, option)
  const keys = remoteJwks(new URL(url), { cacheSeconds: 20 })
  t.same([keys.url, keys.options.cooldownSeconds, Object.isFrozen(keys) && Object.isFrozen(keys.options)], [url, 20, true])
  const issuers = (one: object) => ({ issuers: { 'https://us': one } })
  const wrong: readonly (readonly [object, string, RegExp])[] = [
    [{ keys }, 'algorithms', /is required with a key resolver or a JWK Set/],
    [{ keys, algorithms: ['RS256', 'HS256'] }, 'algorithms', /can't hold HS algorithms with a JWK Set/],
    [{ keys: { url, options: keys.options }, algorithms: ['RS256'] }, 'keys', /non-empty list/],
    [{ keys: { ...keys }, algorithms: ['RS256'] }, 'keys', /non-empty list/],
    [{ keys: [keys] }, 'keys[0].url', /is unknown/],
    [{}, 'keys', /or "issuers" is required/],
    [{ issuers: {} }, 'issuers', /and not empty/],
    [{ issuers: [] }, 'issuers', /must be an object/],
    [{ issuers: null }, 'issuers', /must be an object/],
    [{ ...issuers({ keys: [{ key: secret }] }), issuer: 'x' }, 'issuer', /belongs to each of "issuers"/],
    [{ ...issuers({ keys: [{ key: secret }] }), keys }, 'keys', /belongs to each of "issuers"/],
    [{ ...issuers({ keys: [{ key: secret }] }), algorithms: ['HS256'] }, 'algorithms', /belongs to each of "issuers"/],
    [issuers({}), 'issuers.https://us.keys', /is required/],
    [issuers({ keys: () => undefined, algorithms: ['HS256'] }), 'issuers.https://us.keys', /must be a list of keys, or remoteJwks/],
    [issuers({ keys }), 'issuers.https://us.algorithms', /is required/],
    [issuers({ keys, algorithms: ['HS512'] }), 'issuers.https://us.algorithms', /can't hold HS/],
    [issuers({ keys: [{ key: 'text' }] }), 'issuers.https://us.keys[0].key', /must not be text/],
    [issuers({ keys: [{ key: secret }], issuer: 'x' }), 'issuers.https://us.issuer', /is unknown/],
    [issuers({ keys: [{ key: secret }], audience: 1 }), 'issuers.https://us.audience', /non-empty string/],
    [{ keys: [{ key: secret }], keyCacheSeconds: -1 }, 'keyCacheSeconds', /0 to 86400/],
    [{ keys: [{ key: secret }], cacheEntries: 1_000_001 }, 'cacheEntries', /0 to 1000000/],
    [{ keys: [{ key: secret }], revocations: null }, 'revocations', /must be a list of revocations/],
    [{ keys: [{ key: secret }], revocations: { isRevoked: true } }, 'revocations', /must be a list of revocations/]
  ]
  for (const [options, option, rule] of wrong) {
    const app = Fastify()
    const refused = await Promise.resolve(app.register(bearerJwt, options)).then(() => undefined, (error: unknown) => error)
    await app.close()
    if (!isOptionsError(refused)) t.fail(`${option} was taken`)
    else t.match([refused.option, refused.message], [option, rule], refused.message)
  }
})
