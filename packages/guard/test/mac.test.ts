import { createHmac, createPublicKey, createSecretKey, generateKeyPairSync } from 'node:crypto'
import * as fc from 'fast-check'
import t from 'tap'
import { createMac, isSameMac, type MacAlgorithm } from '../src/mac.js'

const algorithms: readonly MacAlgorithm[] = ['sha1', 'sha256', 'sha384', 'sha512']

// RFC 2202 section 3 and RFC 4231 section 4.3: the key "Jefe".
const known = {
  sha1: 'effcdf6ae5eb2fa2d27416d5f184df9c259a7c79',
  sha256: '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
  sha384: 'af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649',
  sha512: '164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737'
}

t.test('gives the MACs that the RFCs state', async (t) => {
  for (const algorithm of algorithms) {
    const mac = createMac(algorithm, Buffer.from('Jefe'))
    t.equal(mac.of('what do ya want for nothing?').toString('hex'), known[algorithm], algorithm)
    t.equal(mac.length, known[algorithm].length / 2, `${algorithm} has its length`)
  }
})

t.test('gives the MACs that createHmac gives, for every key and message, whole and in pieces', async () => {
  const bytes = (maxLength: number) => fc.uint8Array({ minLength: 1, maxLength })
  const message = fc.oneof(fc.uint8Array({ maxLength: 400 }), fc.string({ unit: 'binary', maxLength: 200 }), fc.string({ unit: 'grapheme', maxLength: 200 }))
  fc.assert(fc.property(fc.constantFrom(...algorithms), bytes(300), fc.boolean(), message, message, (algorithm, key, isKeyObject, first, second) => {
    const mac = createMac(algorithm, isKeyObject ? createSecretKey(key) : key)
    const expected = (text: string | Uint8Array) => createHmac(algorithm, key).update(text).digest('hex')
    const pieces = mac.start().update(first)
    // A second message, and the first one again: nothing of one message may be left for the next.
    return mac.of(first).toString('hex') === expected(first) && mac.of(second).toString('hex') === expected(second) &&
      mac.of(first).toString('hex') === expected(first) &&
      pieces.update(second).digest('hex') === createHmac(algorithm, key).update(first).update(second).digest('hex')
  }), { numRuns: 1000 })
})

t.test('gives the right MAC for keys around the length of a block', async (t) => {
  for (const algorithm of algorithms) {
    for (const length of [1, 63, 64, 65, 127, 128, 129]) {
      const key = Buffer.alloc(length, 0xa5)
      t.ok(createMac(algorithm, key).of('message').equals(createHmac(algorithm, key).update('message').digest()), `${algorithm}, ${length}`)
    }
  }
})

t.test('gives the right MAC on both sides of the length that is hashed in one piece', async (t) => {
  for (const algorithm of algorithms) {
    const mac = createMac(algorithm, Buffer.alloc(40, 7))
    for (const length of [0, 1, 63, 64, 128, 5418, 5419, 5461, 5462, 16_255, 16_256, 16_257, 16_320, 16_321, 100_000]) {
      for (const message of ['a'.repeat(length), '\ud800'.repeat(length), '\u20ac'.repeat(length), Buffer.alloc(length, 0xff)]) {
        t.ok(mac.of(message).equals(createHmac(algorithm, Buffer.alloc(40, 7)).update(message).digest()), `${algorithm}, ${length}`)
      }
    }
  }
})

t.test('gives a MAC that later ones leave alone', async (t) => {
  const mac = createMac('sha256', Buffer.from('Jefe'))
  const first = mac.of('what do ya want for nothing?')
  mac.of('something else')
  t.equal(first.toString('hex'), known.sha256)
})

t.test('says of a MAC whether it is the message\'s', async () => {
  const message = fc.oneof(fc.uint8Array({ maxLength: 300 }), fc.string({ unit: 'grapheme', maxLength: 200 }))
  fc.assert(fc.property(fc.constantFrom(...algorithms), message, message, fc.nat(), (algorithm, first, second, place) => {
    const mac = createMac(algorithm, Buffer.from('Jefe'))
    const right = createHmac(algorithm, 'Jefe').update(first).digest()
    const flipped = Buffer.from(right)
    flipped[place % right.length]! ^= 1 << (place & 7)
    const wrong = [flipped, right.subarray(1), right.subarray(0, -1), Buffer.concat([right, right]), Buffer.alloc(0)]
    return mac.isOf(first, right) && wrong.every((each) => !mac.isOf(first, each)) && mac.isOf(second, right) === Buffer.from(first).equals(Buffer.from(second))
  }))
})

t.test('makes no MAC of what is neither text nor bytes: all of that would have the same', async (t) => {
  const mac = createMac('sha256', Buffer.from('Jefe'))
  for (const message of [{ amount: 1 }, [1, 2], 1, null, undefined, new ArrayBuffer(8), new Uint16Array(4), new DataView(new ArrayBuffer(8))]) {
    t.throws(() => mac.of(message as never), TypeError)
    t.throws(() => mac.isOf(message as never, Buffer.alloc(32)), TypeError)
  }
})

t.test('takes no empty key, and no key that is not secret', async (t) => {
  const { privateKey } = generateKeyPairSync('ed25519')
  for (const key of [new Uint8Array(0), createSecretKey(new Uint8Array(0)), privateKey, createPublicKey(privateKey)]) {
    t.throws(() => createMac('sha256', key), { name: 'OptionsError', option: 'key' })
  }
})

t.test('knows a MAC only whole', async (t) => {
  const computed = createMac('sha256', Buffer.from('Jefe')).of('message')
  t.ok(isSameMac({ computed, presented: Uint8Array.from(computed) }))
  for (const length of [0, 1, 16, 31, 33, 64]) {
    t.notOk(isSameMac({ computed, presented: Buffer.concat([computed], length) }), `${length} bytes`)
  }
  for (let bit = 0; bit < 256; bit++) {
    const presented = Buffer.from(computed)
    presented[bit >> 3]! ^= 1 << (bit & 7)
    if (isSameMac({ computed, presented })) t.fail(`bit ${bit} does not count`)
  }
})
