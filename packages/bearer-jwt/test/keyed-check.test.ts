import { createSecretKey, type KeyObject } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { JwtKey } from '../src/index.js'
import { createResolvedSource } from '../src/key-source.js'
import { createKeyedCheck, type LibraryKey } from '../src/private-jwt.js'
import { countMacs } from './fixtures/macs.js'
import { claims, hmacToken, otherSecret, secret } from './fixtures/tokens.js'

const right = hmacToken(claims)
const wrong = hmacToken(claims, otherSecret)

/** A key that counts how often its bytes are asked for: once to be used, once more when it gets a check of its own. */
function countedKey (bytes: Uint8Array | string): LibraryKey & { readonly exports: () => number } {
  const key = createSecretKey(Buffer.from(bytes))
  let exports = 0
  const counted = { type: 'secret', export: () => { exports++; return key.export() } } as unknown as KeyObject
  return { key: counted, algorithm: 'HS256', exports: () => exports }
}

const macs = countMacs(t)

t.test('a secret in steady use gets a check of its own, as strict as before', async (t) => {
  const check = await createKeyedCheck(['HS256'])
  const key = countedKey(secret)
  macs()
  const judge = (title: string): void => {
    t.match(check(right, key), { sub: claims.sub }, title)
    t.equal(macs(), 1, `${title}: one check`)
    t.equal(check(wrong, key), undefined, title)
    t.equal(macs(), 2, `${title}: a wrong signature takes two, of either kind`)
  }
  judge('at first')
  for (let i = 0; i < 998; i++) check(right, key)
  for (let i = 0; i < 100; i++) check(wrong, key)
  await sleep(50)
  t.equal(key.exports(), 1, 'wrong signatures don\'t count')
  check(right, key)
  for (let tries = 0; key.exports() < 2 && tries < 100; tries++) await sleep(20)
  t.equal(key.exports(), 2)
  await sleep(200)
  macs()
  judge('in steady use')
  const other = countedKey(otherSecret)
  t.match(check(wrong, other), { sub: claims.sub }, 'another key has a check of its own')
  t.equal(check(right, other), undefined)
})

t.test('no more than a hundred secrets get one', async (t) => {
  const check = await createKeyedCheck(['HS256'])
  const keys = Array.from({ length: 102 }, () => countedKey(secret))
  for (const key of keys) for (let i = 0; i < 1_000; i++) check(right, key)
  for (let tries = 0; keys.filter((key) => key.exports() === 2).length < 100 && tries < 500; tries++) await sleep(20)
  await sleep(100)
  t.equal(keys.filter((key) => key.exports() === 2).length, 100)
})

t.test('a key that a resolver gives again stays the object that it was, unless something of it changed', async (t) => {
  let given: JwtKey = { key: secret, id: 'a' }
  const source = await createResolvedSource(() => given, { owner: 'test', path: '', shortSecrets: undefined, algorithms: ['HS256'] }, 1)
  const hints = { algorithm: 'HS256', keyId: undefined, issuer: undefined, tenant: '7' } as const
  let now = 0
  const next = async () => (await source.find(hints, now += 2_000))[0]
  const first = await next()
  given = { key: Buffer.from(secret), id: 'a' }
  t.equal(await next(), first, 'the same bytes in other objects')
  for (const changed of [{ key: otherSecret, id: 'a' }, { key: secret, id: 'b' }, { key: secret, id: 'a', notAfter: new Date(9_000) }, { key: secret, id: 'a', notBefore: new Date(0) }]) {
    given = { key: secret, id: 'a' }
    const before = await next()
    given = changed
    t.not(await next(), before, Object.keys(changed).join(' '))
  }
})
