import { createHash } from 'node:crypto'
import * as fc from 'fast-check'
import t from 'tap'
import { formatContentDigest, parseContentDigest, watchContentDigest } from '../src/content-digest.js'

const digestRefused = { code: 'ERR_HMAC_AUTH_DIGEST_INVALID', statusCode: 401 }
const abc = Buffer.from('abc')
// FIPS 180-4, examples.
const sha256 = 'ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0='
const sha512 = '3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw=='

function verify (value: string, ...chunks: readonly Uint8Array[]): void {
  const watch = watchContentDigest(parseContentDigest(value))
  for (const chunk of chunks) watch.update(chunk)
  watch.verify()
}

t.test('accepts the body that was stated, in any pieces', async (t) => {
  for (const value of [`sha-256=:${sha256}:`, `sha-512=:${sha512}:`, `sha-512=:${sha512}:, sha-256=:${sha256}:`, `  sha-256=:${sha256}:;a=1 ,\tmd5=:AAAA:, constructor=:AAAA:, unixsum=30637`]) {
    t.doesNotThrow(() => verify(value, abc), value)
    t.doesNotThrow(() => verify(value, abc.subarray(0, 1), new Uint8Array(0), abc.subarray(1)), `${value} in pieces`)
  }
  t.doesNotThrow(() => verify(formatContentDigest('')), 'a body that never came is an empty one')
})

t.test('refuses another body', async (t) => {
  const wrong = 'A'.repeat(43) + '='
  for (const value of [`sha-256=:${wrong}:`, `sha-256=:${sha256}:, sha-512=:${'A'.repeat(86)}==:`, `sha-512=:${sha512}:, sha-256=:${wrong}:`]) t.throws(() => verify(value, abc), digestRefused, value)
  for (const chunks of [[], [abc, abc], [Buffer.from('abC')], [Buffer.from('ab')], [abc, Buffer.from([0])], [Buffer.from('acb')]]) t.throws(() => verify(`sha-256=:${sha256}:`, ...chunks), digestRefused)
  t.throws(() => verify(formatContentDigest(Buffer.from([0xff])), Buffer.from([0xfe])), digestRefused, 'bytes that no text has are still bytes')
})

t.test('refuses a field that states nothing that can be checked', async (t) => {
  const unusable = [
    '', 'sha=:AAAA:', 'sha-1=:AAAA:', 'constructor=:AA==:', 'sha-256', 'sha-256=?1', 'sha-256=::', `sha-256="${sha256}"`, `sha-256=:${sha256.slice(0, 20)}:`, `sha-256=:${sha512}:`,
    `sha-512=:${sha256}:`, `sha-256=(:${sha256}:)`, `sha-512=:${sha512}:, sha-256=::`
  ]
  for (const value of unusable) t.throws(() => parseContentDigest(value), digestRefused, value)
  const malformed = [`SHA-256=:${sha256}:`, `sha-256=${sha256}`, `sha-256=:${sha256}`, `sha-256=:${sha256}:,`, `sha-256=:${sha256}: x`, `sha-256=:${sha256.replaceAll('+', '-')}:`, `sha-256=:${sha256}:, sha-256=:${sha256}:`]
  for (const value of malformed) t.throws(() => parseContentDigest(value), { code: 'ERR_HMAC_AUTH_SIGNATURE_INVALID' }, value)
})

t.test('writes what it reads', async () => {
  fc.assert(fc.property(fc.oneof(fc.string({ unit: 'binary' }), fc.uint8Array()), fc.constantFrom('sha-256' as const, 'sha-512' as const), (body, algorithm) => {
    const value = formatContentDigest(body, algorithm)
    verify(value, Buffer.from(body))
    return value === `${algorithm}=:${createHash(algorithm.replace('-', '')).update(body).digest('base64')}:` && parseContentDigest(value).size === 1
  }))
})
