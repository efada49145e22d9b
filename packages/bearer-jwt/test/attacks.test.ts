import { Socket } from 'node:net'
import { createHash, createHmac, createSign } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { inspect } from 'node:util'
import { identityOf, memoryStore, optional, OptionReader } from '@sallyport/guard'
import { collectGarbage, findLeaks, heldBytes, observedApp, tokensOf, type Trace } from '@sallyport/test-kit'
import * as fc from 'fast-check'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import t from 'tap'
import { algorithms, bearerJwt, remoteJwks, type BearerJwtOptions, type KeyResolver } from '../src/index.js'
import { createResolvedSource } from '../src/key-source.js'
import { optionNames, resolveOptions } from '../src/options.js'
import { RemoteKeys } from '../src/remote-jwks.js'
import { createTrust } from '../src/trust.js'
import { createTokenVerifier } from '../src/verify-token.js'
import { isRefused, testApp, validOptions, type TestAppSetup } from './fixtures/app.js'
import { claims, ed25519, encode, hmacToken, NOW, otherSecret, p256, publicPem, rsa, secret, signedToken } from './fixtures/tokens.js'

const invalid = 'ERR_BEARER_JWT_TOKEN_INVALID'
const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'

/** Guards with a public key, listed and from a resolver. */
const publicKeyOptions: Readonly<Record<string, Partial<BearerJwtOptions>>> = {
  listed: { keys: [{ key: rsa.publicKey, id: 'rsa' }, { key: p256.publicKey, id: 'ec' }, { key: ed25519.publicKey, id: 'ed' }] },
  resolved: { keys: ({ keyId }) => keyId === 'ec' ? { key: p256.publicKey } : { key: rsa.publicKey }, algorithms: ['RS256', 'ES256'] }
}

t.test('alg none: refused in every spelling, with and without a signature', async (t) => {
  for (const options of [{}, ...Object.values(publicKeyOptions)]) {
    const { send, handlerRuns } = await testApp(t, options)
    for (const alg of ['none', 'None', 'NONE', 'nOnE', ' none', 'none\0', 'none\n', 'n\u043ene', '', 'null', null, undefined, false, 0, ['none'], { none: 1 }]) {
      const input = `${encode({ alg, typ: 'JWT' })}.${encode(claims)}`
      for (const signature of ['', 'AAAA', createHmac('sha256', '').update(input).digest('base64url')]) isRefused(t, await send(`${input}.${signature}`), invalid, JSON.stringify(alg))
      isRefused(t, await send(input), invalid, 'two parts')
    }
    t.equal(handlerRuns(), 0)
  }
})

t.test('algorithm confusion: a public key is never a secret, whatever text of it an attacker signs with', async (t) => {
  const jwk = rsa.publicKey.export({ format: 'jwk' })
  const der = rsa.publicKey.export({ type: 'spki', format: 'der' })
  const texts: readonly (string | Buffer)[] = [
    publicPem, ` ${publicPem}`, `x\n${publicPem}`, `\ufeff${publicPem}`, publicPem.trimEnd(), publicPem.replaceAll('\n', '\r\n'), publicPem.replaceAll('\n', ''),
    rsa.publicKey.export({ type: 'pkcs1', format: 'pem' }), rsa.publicKey.export({ type: 'pkcs1', format: 'der' }), der, der.toString('base64'), der.toString('base64url'),
    JSON.stringify(jwk), JSON.stringify({ keys: [jwk] }), JSON.stringify([jwk]), Buffer.from(jwk.n!, 'base64url'), jwk.n!, 'rsa', '', '\0', '[object Object]', 'undefined',
    '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n'
  ]
  for (const [how, options] of Object.entries(publicKeyOptions)) {
    const { send, handlerRuns } = await testApp(t, options)
    for (const [i, text] of texts.entries()) {
      for (const alg of ['HS256', 'HS384', 'HS512']) {
        for (const kid of ['rsa', undefined]) isRefused(t, await send(hmacToken(claims, text, { alg, ...kid !== undefined && { kid } })), invalid, `${how}: form ${i} as ${alg}`)
      }
    }
    t.equal(handlerRuns(), 0)
    t.equal((await send(signedToken(claims, rsa.privateKey, 'RS256', { kid: 'rsa' }))).statusCode, 200, 'and the right token passes')
  }
})

t.test('key without an algorithm: serves the one of its type, whatever the header of a token says', async (t) => {
  const { send } = await testApp(t, { keys: [{ key: rsa.publicKey.export({ format: 'jwk' }) }] })
  for (const alg of algorithms) {
    const signed = alg.startsWith('HS') ? hmacToken(claims, publicPem, { alg }) : /^[RP]S/.test(alg) ? signedToken(claims, rsa.privateKey, alg) : signedToken(claims, rsa.privateKey, 'RS256', { alg })
    const answer = await send(signed)
    if (alg === 'RS256') t.equal(answer.statusCode, 200)
    else isRefused(t, answer, invalid, alg)
  }
  for (const alg of ['rs256', 'RS256 ', 'RSA-SHA256', 'RS256\0', ['RS256'], 'Ed25519']) {
    const input = `${encode({ alg })}.${encode(claims)}`
    isRefused(t, await send(`${input}.${createSign('sha256').update(input).sign(rsa.privateKey, 'base64url')}`), invalid, JSON.stringify(alg))
  }
})

t.test('embedded keys: neither believed nor fetched', async (t) => {
  const connect = Object.getOwnPropertyDescriptor(Socket.prototype, 'connect')!
  let connections = 0
  Object.defineProperty(Socket.prototype, 'connect', { ...connect, value () { connections++; throw new Error('no network') } })
  t.teardown(() => { Object.defineProperty(Socket.prototype, 'connect', connect) })
  const jwk = p256.publicKey.export({ format: 'jwk' })
  const url = 'https://attacker.example/keys.json'
  for (const options of Object.values(publicKeyOptions)) {
    const { send } = await testApp(t, { ...options, ...options.algorithms === undefined && { keys: [{ key: rsa.publicKey, id: 'rsa' }] } })
    for (const header of [{ jwk }, { jwk: JSON.stringify(jwk) }, { jku: url }, { jku: 'http://169.254.169.254/' }, { x5u: url }, { x5c: ['MIIB'] }, { jku: url, kid: url }]) {
      isRefused(t, await send(signedToken(claims, p256.privateKey, 'ES256', { ...header, kid: 'rsa' })), invalid, inspect(header))
      t.equal((await send(signedToken(claims, rsa.privateKey, 'RS256', { ...header, kid: 'rsa' }))).statusCode, 200, 'ignored where the signature is right')
    }
    isRefused(t, await send(hmacToken(claims, 'k', { alg: 'HS256', jwk: { kty: 'oct', k: 'aw' } })), invalid)
  }
  t.equal(connections, 0)
})

t.test('psychic and misshapen signatures: refused at every length', async (t) => {
  const { send, handlerRuns } = await testApp(t, { keys: [{ key: p256.publicKey }, { key: rsa.publicKey }, { key: ed25519.publicKey }, { key: secret }] })
  const order = 'ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551'
  const hex = ['', '00', '00'.repeat(63), '00'.repeat(64), '00'.repeat(65), 'ff'.repeat(64), order + order, `${'00'.repeat(31)}01${'00'.repeat(31)}01`, order + '00'.repeat(32), '00'.repeat(256), '01', '00'.repeat(10_000)]
  for (const alg of ['ES256', 'RS256', 'EdDSA', 'HS256']) {
    for (const signature of hex) isRefused(t, await send(`${encode({ alg })}.${encode(claims)}.${Buffer.from(signature, 'hex').toString('base64url')}`), invalid, `${alg} ${signature.length / 2} bytes`)
  }
  const right = hmacToken(claims)
  const [input, mac] = [right.slice(0, right.lastIndexOf('.')), Buffer.from(right.slice(right.lastIndexOf('.') + 1), 'base64url')]
  for (const wrong of [mac.subarray(0, 1), mac.subarray(0, 31), Buffer.concat([mac, Buffer.alloc(1)])]) isRefused(t, await send(`${input}.${wrong.toString('base64url')}`), invalid, `${wrong.length} bytes of HMAC`)
  for (const text of [mac.toString('hex'), mac.toString('base64'), `é${'a'.repeat(42)}`, 'a'.repeat(63), '%%%', '=']) isRefused(t, await send(`${input}.${text}`), invalid, text.slice(0, 8))
  t.equal(handlerRuns(), 0)
})

t.test('one token, one spelling: spare bits, padding, white space and the other alphabet are refused in every part', async (t) => {
  const { send } = await testApp(t)
  // Lengths of 1 and 2 modulo 3 leave spare bits.
  const text = hmacToken({ ...claims, pad: 'x' }, secret, { alg: 'HS256', k: '1' })
  const parts = text.split('.')
  t.equal((await send(text)).statusCode, 200)
  let spellings = 0
  for (const [i, part] of parts.entries()) {
    const spare = [0, 0, 4, 2][part.length % 4]!
    const last = alphabet.indexOf(part.at(-1)!)
    const others = Array.from({ length: spare === 0 ? 0 : 2 ** spare - 1 }, (_, bits) => part.slice(0, -1) + alphabet[last + bits + 1]!)
    for (const other of [...others, `${part}=`, `${part}==`, `${part} `, `${part}\t`, `${part}%3D`, `${part.slice(0, 5)}+${part.slice(6)}`, `${part}A`]) {
      const changed = parts.map((unchanged, j) => j === i ? other : unchanged)
      isRefused(t, await send(changed.join('.')), invalid, `part ${i}: ${other.slice(-4)}`)
      // And signed as it is written, which only a strict reader refuses.
      const input = changed.slice(0, 2).join('.')
      if (i < 2) isRefused(t, await send(`${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`), invalid, `signed so, part ${i}`)
      spellings++
    }
  }
  t.ok(spellings > 24, `${spellings} spellings`)
})

t.test('texts that are no token: refused, whatever their shape', async (t) => {
  const { send } = await testApp(t)
  const right = hmacToken(claims)
  const [header, payload, signature] = right.split('.') as [string, string, string]
  const json = { payload, protected: header, signature }
  const shapes = [
    '.', '..', '...', '....', 'a.b', 'a.b.c', `${right}.`, `.${right}`, `${right}.${right}`, `${header}..${signature}`, `.${payload}.${signature}`, `${header}.${payload}`, `${right}.a.b`,
    JSON.stringify(json), JSON.stringify({ payload, signatures: [{ protected: header, signature }] }), encode(right), `"${right}"`, 'null', '[object Object]', `${right};`, `${right}\u00e9`
  ]
  for (const shape of shapes) isRefused(t, await send(shape), invalid, shape.slice(0, 20))
  const written: readonly (readonly [string, string | Buffer, string | Buffer])[] = [
    ['header a list', '[{"alg":"HS256"}]', '{}'], ['header a number', '1', '{}'], ['header null', 'null', '{}'], ['header with a byte order mark', '\ufeff{"alg":"HS256"}', '{}'], ['header in UTF-16', Buffer.from('{"alg":"HS256"}', 'utf16le'), '{}'],
    ['header followed by more', '{"alg":"HS256"}{}', '{}'], ['header with a comma too many', '{"alg":"HS256",}', '{}'], ['payload a list', '{"alg":"HS256"}', '[]'], ['payload null', '{"alg":"HS256"}', 'null'], ['payload text', '{"alg":"HS256"}', '"x"'],
    ['payload empty', '{"alg":"HS256"}', ''], ['payload with a byte order mark', '{"alg":"HS256"}', '\ufeff{}'], ['payload of broken UTF-8', '{"alg":"HS256"}', Buffer.from('7b2261223a22ff227d', 'hex')],
    ['payload with an overlong slash', '{"alg":"HS256"}', Buffer.from('7b2261223a22c0af227d', 'hex')], ['payload with Infinity', '{"alg":"HS256"}', '{"exp":Infinity}'], ['payload a token', '{"alg":"HS256"}', right]
  ]
  const waived = await testApp(t, { requireExpiration: false })
  for (const [title, head, body] of written) {
    const input = `${encode(head)}.${encode(body)}`
    isRefused(t, await waived.send(`${input}.${createHmac('sha256', secret).update(input).digest('base64url')}`), invalid, title)
  }
})

t.test('critical headers: none is understood, so none is accepted', async (t) => {
  const { send } = await testApp(t)
  for (const header of [{ crit: ['exp'] }, { crit: [] }, { crit: '' }, { crit: null }, { crit: false }, { crit: 0 }, { crit: ['b64'], b64: false }, { b64: false }, { b64: true }, { b64: 'false' }, { zip: 'DEF' }, { zip: null }]) {
    isRefused(t, await send(hmacToken(claims, secret, { alg: 'HS256', ...header })), invalid, JSON.stringify(header))
  }
  t.equal((await send(hmacToken(claims, secret, { alg: 'HS256', unknown: { a: 1 }, cty: 'x' }))).statusCode, 200, 'unknown headers are ignored (RFC 7515 section 4)')
  isRefused(t, await send(hmacToken(claims, secret, '{"__proto__":{"alg":"HS256"}}')), invalid, 'an inherited alg')
  t.equal((await send(hmacToken(claims, secret, '{"alg":"HS256","__proto__":{"crit":["x"],"alg":"none"}}'))).statusCode, 200, 'what is inherited is nobody\'s')
})

t.test('members written twice: the last counts, for us as for every JSON.parse after us', async (t) => {
  const { send } = await testApp(t, { audience: 'ours' })
  const twice = (first: string, last: string): string => `{"exp":${NOW + 9},"aud":"ours",${first},${last}}`
  t.equal((await send(hmacToken(twice('"aud":"theirs"', '"aud":"ours"')))).statusCode, 200)
  isRefused(t, await send(hmacToken(twice('"aud":"ours"', '"aud":"theirs"'))), 'ERR_BEARER_JWT_CLAIMS_INVALID')
  isRefused(t, await send(hmacToken(twice(`"exp":${NOW + 9}`, '"exp":1'))), 'ERR_BEARER_JWT_TOKEN_EXPIRED')
  isRefused(t, await send(hmacToken(claims, secret, '{"alg":"HS256","alg":"none"}')), invalid)
})

t.test('prototype pollution: no claim reaches a prototype, or comes back as one', async (t) => {
  const evil = '{"isAdmin":true,"polluted":true}'
  const payloads = [
    `{"exp":${NOW + 9},"__proto__":${evil}}`, `{"exp":${NOW + 9},"constructor":{"prototype":${evil}}}`, `{"exp":${NOW + 9},"prototype":${evil}}`, `{"exp":${NOW + 9},"deep":{"list":[{"__proto__":${evil}}]}}`,
    `{"exp":${NOW + 9},"\\u005f_proto__":${evil}}`, `{"exp":${NOW + 9},"__proto__":[],"then":"x","toString":null,"constructor":null,"hasOwnProperty":1}`
  ]
  const { send, identity } = await testApp(t)
  for (const payload of payloads) {
    t.equal((await send(hmacToken(payload))).statusCode, 200)
    const { claims } = identity()
    const copies = [claims, { ...claims }, Object.assign({}, claims), structuredClone(claims), claims['deep'] === undefined ? {} : Object.assign({}, (claims['deep'] as { list: object[] }).list[0])] as { isAdmin?: unknown, polluted?: unknown }[]
    for (const copy of copies) t.same([copy.isAdmin, copy.polluted], [undefined, undefined])
    t.same([({} as { isAdmin?: unknown }).isAdmin, ({} as { polluted?: unknown }).polluted], [undefined, undefined])
    t.equal(Object.hasOwn(claims, '__proto__'), false)
    t.equal(Object.getPrototypeOf(claims), Object.prototype)
  }
  const strict = await testApp(t, { issuer: 'us', requireExpiration: false })
  isRefused(t, await strict.send(hmacToken('{"__proto__":{"iss":"us"}}')), 'ERR_BEARER_JWT_CLAIMS_INVALID', 'an inherited issuer')
})

t.test('mutation: a handler that changes the claims fails, and the next request sees nothing of it', async (t) => {
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(bearerJwt, validOptions())
  app.get('/', { onRequest: app.bearerJwt }, (request) => {
    const claims = identityOf(request, app.bearerJwt).claims as { role: string, deep: { list: string[] } }
    const before = JSON.stringify(claims)
    t.throws(() => { claims.role = 'admin' }, TypeError)
    t.throws(() => { claims.deep.list.push('admin') }, TypeError)
    t.throws(() => { Object.assign(request.auth.principal, { tenant: 'other' }) }, TypeError)
    return before
  })
  const token = hmacToken({ ...claims, role: 'user', deep: { list: ['user'] } })
  const answers = [await app.inject({ url: '/', headers: { authorization: `Bearer ${token}` } }), await app.inject({ url: '/', headers: { authorization: `Bearer ${token}` } })]
  t.same(answers.map(({ statusCode }) => statusCode), [200, 200])
  t.equal(answers[0]!.body, answers[1]!.body)
})

t.test('deep nesting and size: refused in bounded time, unread where too long', async (t) => {
  const { send, decisions } = await testApp(t, { maxTokenBytes: 1_048_576 })
  const nested = (depth: number, open: string, close: string): string => `{"exp":${NOW + 9},"a":${open.repeat(depth)}${open.startsWith('{') ? '0' : ''}${close.repeat(depth)}}`
  t.equal((await send(hmacToken(nested(32, '[', ']')))).statusCode, 200)
  t.equal((await send(hmacToken(nested(32, '{"a":', '}')))).statusCode, 200)
  for (const payload of [nested(33, '[', ']'), nested(33, '{"a":', '}'), nested(100_000, '[', ']'), nested(50_000, '{"a":', '}')]) {
    const startedAt = performance.now()
    isRefused(t, await send(hmacToken(payload)), invalid, `${payload.length} characters`)
    t.ok(performance.now() - startedAt < 2_000)
  }
  t.equal((await send(hmacToken(`{${'"k":1,'.repeat(50_000)}"exp":${NOW + 9}}`))).statusCode, 200, 'many members are no trouble')
  isRefused(t, await send(hmacToken(`{"exp":${'9'.repeat(100_000)}}`)), 'ERR_BEARER_JWT_CLAIMS_INVALID', 'a number that overflows')

  const usual = await testApp(t)
  // Of any three lengths in a row base64url leaves out one.
  const padded = Array.from({ length: 9_000 }, (_, i) => i).filter((i) => i > 5_000).map((i) => ({ ...claims, pad: 'x'.repeat(i) }))
  const lengths = new Map(padded.map((given) => [`${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(given)}.`.length + 43, given]))
  const sized = (wanted: readonly number[]): string => hmacToken(lengths.get(wanted.find((length) => lengths.has(length))!)!)
  t.equal((await usual.send(sized([8_192, 8_191]))).statusCode, 200)
  isRefused(t, await usual.send(sized([8_193, 8_194])), invalid)
  for (const text of ['A'.repeat(8_193), '.'.repeat(100_000), `${encode({ alg: 'HS256' })}.${encode(claims)}.${'A'.repeat(1_048_576)}`]) isRefused(t, await send(text), invalid)
  t.equal(decisions.at(-1)?.reason, 'malformed')
})

t.test('cross-tenant: a token for one tenant is worth nothing under the key of another', async (t) => {
  const keys: KeyResolver = ({ tenant }) => tenant === '100001' ? { key: secret } : tenant === '200002' ? { key: otherSecret } : undefined
  const { send, handlerRuns } = await testApp(t, { keys, algorithms: ['HS256'], tenant: 'company_id' }, { route: '/:company', policy: (guard) => guard.require({ tenantParam: 'company' }) })
  const ask = (company: unknown, key: Buffer, url = '/200002') => send({ url, headers: { authorization: `Bearer ${hmacToken({ ...claims, company_id: company })}`, ...key !== secret && { authorization: `Bearer ${hmacToken({ ...claims, company_id: company }, key)}` } } })
  isRefused(t, await ask(200002, secret), invalid, 'one\'s own key for another\'s tenant')
  isRefused(t, await ask('200002', secret), invalid)
  isRefused(t, await ask(100001, otherSecret), invalid)
  isRefused(t, await ask([200002], secret), invalid)
  const elsewhere = await ask(100001, secret)
  t.same([elsewhere.statusCode, elsewhere.json<{ code: string }>().code], [403, 'ERR_GUARD_TENANT_MISMATCH'], 'one\'s own token at another\'s route')
  t.equal(handlerRuns(), 0)
  t.equal((await ask(200002, otherSecret)).statusCode, 200)
})

const once: NonNullable<TestAppSetup['policy']> = (guard) => guard.require({ singleUse: true })
const oneShot = () => ({ store: memoryStore({ clock: () => NOW * 1000 }) })

t.test('burning another\'s jti: a tenant or an issuer uses up only its own', async (t) => {
  const keys: KeyResolver = ({ tenant }) => ({ key: tenant === '1' ? secret : otherSecret })
  const { send } = await testApp(t, { ...oneShot(), keys, algorithms: ['HS256'], tenant: 'company_id' }, { policy: once })
  const of = (company: number, given: object = {}): string => hmacToken({ ...claims, nbf: NOW, jti: 'guessed', company_id: company, ...given }, company === 1 ? secret : otherSecret)
  t.equal((await send(of(1))).statusCode, 200)
  t.equal((await send(of(2))).statusCode, 200, 'the same jti of another tenant')
  t.equal((await send(of(2, { iss: 'x' }))).statusCode, 200, 'the same jti of another issuer')
  isRefused(t, await send(of(2)), 'ERR_BEARER_JWT_TOKEN_REUSED')
  // Names that would run together if keys were joined without quoting.
  t.equal((await send(of(2, { iss: 'a","b', jti: 'c' }))).statusCode, 200)
  t.equal((await send(of(2, { iss: 'a', jti: 'b","c' }))).statusCode, 200)
})

t.test('burning a jti with a forged token: what is refused claims nothing', async (t) => {
  const { send } = await testApp(t, oneShot(), { policy: once })
  for (let i = 0; i < 50; i++) await send(hmacToken({ ...claims, nbf: NOW, jti: 'a' }, otherSecret))
  t.equal((await send(hmacToken({ ...claims, nbf: NOW, jti: 'a' }))).statusCode, 200)
})

t.test('signature twins: the second signature that ECDSA has for a token does not make a second use', async (t) => {
  const { send } = await testApp(t, { ...oneShot(), keys: [{ key: p256.publicKey }] }, { policy: once })
  const text = signedToken({ ...claims, nbf: NOW }, p256.privateKey, 'ES256')
  const [header, payload, signature] = text.split('.') as [string, string, string]
  const bytes = Buffer.from(signature, 'base64url').toString('hex')
  const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n
  const twin = `${header}.${payload}.${Buffer.from(bytes.slice(0, 64) + (order - BigInt(`0x${bytes.slice(64)}`)).toString(16).padStart(64, '0'), 'hex').toString('base64url')}`
  const plain = await testApp(t, { keys: [{ key: p256.publicKey }] })
  t.equal((await plain.send(twin)).statusCode, 200, 'the twin is a valid signature')
  t.equal((await send(text)).statusCode, 200)
  isRefused(t, await send(twin), 'ERR_BEARER_JWT_TOKEN_REUSED')
})

t.test('a remembered header proves nothing: signatures count for the hundredth token as for the first', async (t) => {
  const { send } = await testApp(t)
  for (let i = 0; i < 150; i++) {
    const header = { alg: 'HS256', n: i }
    if (i % 2 === 0) isRefused(t, await send(hmacToken(claims, otherSecret, header)), invalid)
    else t.equal((await send(hmacToken(claims, secret, header))).statusCode, 200)
  }
  for (const alg of ['HS256', 'none', 'HS512']) isRefused(t, await send(hmacToken(claims, otherSecret, { alg })), invalid)
})

t.test('whatever a client sends: never 500, never through', async (t) => {
  const { send, handlerRuns } = await testApp(t)
  const part = fc.oneof(fc.base64String(), fc.string({ unit: 'binary', maxLength: 40 }).map((text) => encode(text)), fc.json().map(encode), fc.string())
  const text = fc.oneof(fc.string({ unit: 'binary' }), fc.array(part, { maxLength: 6 }).map((parts) => parts.join('.')), fc.json().map((payload) => hmacToken(payload, otherSecret)))
  await fc.assert(fc.asyncProperty(fc.constantFrom('Bearer ', 'bearer', 'Bearer', ''), text, async (scheme, token) => {
    const answer = await send({ headers: { authorization: scheme + token } })
    return answer.statusCode === 401 && String(answer.headers['www-authenticate']).startsWith('Bearer realm="api"')
  }), { numRuns: 400 })
  t.equal(handlerRuns(), 0)
})

t.test('rightly signed nonsense: never 500 either', async (t) => {
  const { send } = await testApp(t, { tenant: 'tenant', subject: 'sub', scopes: 'scope' })
  const statuses = new Set<number>()
  const names = fc.constantFrom('exp', 'nbf', 'iat', 'iss', 'aud', 'sub', 'jti', 'scope', 'tenant', '__proto__', 'toString', 'then')
  await fc.assert(fc.asyncProperty(fc.dictionary(names, fc.jsonValue(), { maxKeys: 8 }), async (given) => {
    const { statusCode } = await send(hmacToken({ exp: NOW + 9, tenant: 't', sub: 's', ...given }))
    statuses.add(statusCode)
    return statusCode === 200 || statusCode === 401
  }), { numRuns: 400 })
  t.same([...statuses].sort(), [200, 401])
})

t.test('made-up hints: what clients choose fills no memory', async (t) => {
  const source = await createResolvedSource(() => ({ key: secret }), { owner: 'test', path: '', shortSecrets: undefined, algorithms: ['HS256'] }, 60)
  const before = await heldBytes('heapUsed')
  const ask = async (i: number) => source.find({ algorithm: 'HS256', keyId: `${i}${'x'.repeat(100_000)}`, issuer: undefined, tenant: '1' }, 0)
  for (let i = 0; i < 1_000; i++) await ask(i)
  t.ok(await heldBytes('heapUsed') - before < 10 * 2 ** 20, 'a hundred megabytes of key ids are not kept')
  t.equal(await ask(999), await ask(999), 'and yet they are known')
})

t.test('a request that was answered is not kept for its token', async (t) => {
  const app: FastifyInstance = Fastify()
  await app.register(bearerJwt, validOptions())
  const policies = { alone: app.bearerJwt, optional: optional(app.bearerJwt) }
  const requests = new Map<string, WeakRef<FastifyRequest>>()
  for (const [name, onRequest] of Object.entries(policies)) {
    app.get(`/${name}`, { onRequest }, async (request) => { requests.set(name, new WeakRef(request)); return {} })
  }
  for (const name of Object.keys(policies)) {
    t.equal((await app.inject({ url: `/${name}`, headers: { authorization: `Bearer ${hmacToken(claims)}` } })).statusCode, 200)
    for (let tries = 0; tries < 50 && requests.get(name)!.deref() !== undefined; tries++) {
      await sleep(10)
      collectGarbage()
    }
    t.equal(requests.get(name)!.deref(), undefined, name)
  }
  await app.close()
})

t.test('known tokens: nothing of their text is kept', async (t) => {
  const resolved = resolveOptions(new OptionReader('test', { keys: [{ key: secret }], store: memoryStore() }, optionNames))
  const verify = createTokenVerifier(resolved, await createTrust(resolved.trust))
  for (const jti of ['a', undefined]) {
    const token = hmacToken({ ...claims, jti })
    const shown = inspect(await verify(token, NOW * 1000), { depth: 9, showHidden: true })
    t.match(shown, /alice/)
    for (const part of token.split('.')) t.notOk(shown.includes(part))
  }
})

t.test('cooldown: sealed tokens, which ask for keys later than they came, are no reason to fetch again', async (t) => {
  let fetched = 0
  const jwk = { ...rsa.publicKey.export({ format: 'jwk' }), kid: 'rsa' }
  const keys = new RemoteKeys(remoteJwks('https://issuer.example/keys', { fetch: async () => { fetched++; return Response.json({ keys: [jwk] }) } }), ['RS256'])
  for (const at of [0, 31, 62, 93]) {
    for (const earlier of [0, 0.5, 2]) t.equal((await keys.find(`made-up ${at} ${earlier}`, (at - earlier) * 1000)).length, 1)
  }
  t.equal(fetched, 4)
})

t.test('issuers: none signs for another, or uses up its tokens', async (t) => {
  const issuers = { us: { keys: [{ key: secret }] }, them: { keys: [{ key: otherSecret }] } }
  const app = Fastify()
  t.teardown(() => app.close())
  await app.register(bearerJwt, { issuers, clock: () => NOW * 1000, ...oneShot() })
  app.get('/', { onRequest: app.bearerJwt.require({ singleUse: true }) }, () => 'ok')
  const ask = (iss: string, key: Buffer) => app.inject({ url: '/', headers: { authorization: `Bearer ${hmacToken({ ...claims, nbf: NOW, jti: 'guessed', iss }, key)}` } })
  isRefused(t, await ask('us', otherSecret), invalid, 'one issuer\'s key for another')
  isRefused(t, await ask('nobody', secret), invalid)
  for (const iss of ['__proto__', 'constructor', 'toString', '']) isRefused(t, await ask(iss, secret), invalid, iss)
  t.equal((await ask('them', otherSecret)).statusCode, 200)
  t.equal((await ask('us', secret)).statusCode, 200)
  isRefused(t, await ask('us', secret), 'ERR_BEARER_JWT_TOKEN_REUSED')
})

t.test('canaries: no secret and no part of a token comes out, whatever the answer', async (t) => {
  const { app, send, handler } = observedApp(t, { server: { bodyLimit: 100 } })
  const traces: Trace[] = []
  const store = { claim: async () => { throw new Error('store down') }, release: async () => undefined }
  const keys: KeyResolver = ({ keyId }) => {
    if (keyId === 'down') throw new Error('key source down')
    return keyId === 'short' ? { key: Buffer.from('canary-short-key') } : { key: secret, id: 'live' }
  }
  const onDecision = (decision: object): void => { traces.push({ where: 'decision', text: inspect(decision, { depth: 9, showHidden: true }) }) }
  await app.register(bearerJwt, { ...validOptions(), keys, algorithms: ['HS256'], store, audience: 'us', onDecision })
  app.addHook('onError', async (_request, _reply, error) => { traces.push({ where: 'error', text: inspect(error, { depth: 9, showHidden: true }) + String(error.stack) }) })
  app.post('/', { onRequest: app.bearerJwt }, handler)
  app.get('/scoped', { onRequest: app.bearerJwt.require({ scopes: ['none-has-it'] }) }, handler)
  app.get('/once', { onRequest: app.bearerJwt.require({ singleUse: true }) }, handler)
  app.get('/broken', { onRequest: app.bearerJwt }, (request) => { throw new Error(`handler of ${request.id}`) })
  const given = { ...claims, aud: 'us', sub: 'canary-subject-0123456789', secret: 'canary-claim-0123456789' }
  const right = hmacToken(given)
  const ask = (token: string, request: object = {}) => ({ method: 'POST' as const, url: '/', headers: { authorization: `Bearer ${token}` }, ...request })
  const requests = [
    [200, ask(right)], [401, ask(right.slice(0, -4))], [401, ask(hmacToken(given, otherSecret))], [401, ask(hmacToken({ ...given, aud: 'canary-audience-0123456789' }))], [401, ask(hmacToken({ ...given, exp: 1 }))],
    [401, ask(`${right}, ${right}`)], [401, { method: 'POST' as const, url: '/', headers: { authorization: `Basic ${right}` } }], [403, ask(right, { method: 'GET', url: '/scoped' })], [404, ask(right, { url: '/nowhere' })], [413, ask(right, { payload: 'x'.repeat(200) })],
    [415, ask(right, { payload: 'x', headers: { authorization: `Bearer ${right}`, 'content-type': ';' } })], [500, ask(right, { method: 'GET', url: '/broken' })], [503, ask(right, { method: 'GET', url: '/once' })], [503, ask(hmacToken(given, secret, { alg: 'HS256', kid: 'down' }))], [503, ask(hmacToken(given, secret, { alg: 'HS256', kid: 'short' }))]
  ] as const
  const tokens = new Set<string>()
  for (const [status, request] of requests) {
    const answer = await send(request)
    t.equal(answer.statusCode, status, answer.body)
    for (const token of tokensOf(request.headers)) tokens.add(token)
    traces.push({ where: `answer ${status}`, text: `${JSON.stringify(answer.headers)} ${answer.body}` })
  }
  const digest = createHash('sha256').update(right).digest('hex')
  const secrets = [secret, otherSecret].map(String)
  t.ok(traces.some(({ where }) => where === 'decision') && traces.some(({ where }) => where === 'error'))
  t.same(findLeaks(traces, [...secrets, ...tokens, digest, 'canary-short-key', 'canary-claim-0123456789', 'canary-audience-0123456789']), [])
})
