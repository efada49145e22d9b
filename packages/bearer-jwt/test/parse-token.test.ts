import { isDeepStrictEqual } from 'node:util'
import * as fc from 'fast-check'
import t from 'tap'
import { isBase64Url, parseToken, readClaims } from '../src/parse-token.js'
import { encode, type Part } from './fixtures/tokens.js'

interface Parsed { readonly header: { readonly alg: unknown, readonly kid: unknown, readonly typ: unknown }, readonly claims: unknown }

/** An oracle that shares nothing with the code under test: it decodes with `Buffer`, and believes what encodes to the same text again. */
function oracle (token: string): Parsed | undefined {
  const parts = token.split('.')
  if (parts.length !== 3 || parts.some((part) => Buffer.from(part, 'base64url').toString('base64url') !== part)) return undefined
  const [header, claims] = parts.slice(0, 2).map(objectOf)
  if (header === undefined || claims === undefined || depthOf(claims) > 32) return undefined
  const { alg, kid, typ } = Object.fromEntries(Object.entries(header))
  if (typeof alg !== 'string' || [kid, typ].some((value) => value !== undefined && typeof value !== 'string')) return undefined
  if (Object.keys(header).some((name) => ['crit', 'b64', 'zip'].includes(name))) return undefined
  return { header: { alg, kid, typ }, claims: withoutProto(claims) }
}

function objectOf (part: string): object | undefined {
  const bytes = Buffer.from(part, 'base64url')
  if (!Buffer.from(bytes.toString()).equals(bytes)) return undefined
  try {
    const value = JSON.parse(bytes.toString()) as unknown
    return Object.prototype.toString.call(value) === '[object Object]' ? value as object : undefined
  } catch {
    return undefined
  }
}

function depthOf (value: unknown): number {
  if (typeof value !== 'object' || value === null) return -1
  return 1 + Math.max(-1, ...Object.values(value).map(depthOf))
}

function withoutProto (value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutProto)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).filter(([name]) => name !== '__proto__').map(([name, inner]) => [name, withoutProto(inner)]))
}

function parsed (token: string): Parsed | undefined {
  try {
    const found = parseToken(token)
    const { header } = found
    return { header, claims: readClaims(found) }
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ERR_BEARER_JWT_TOKEN_INVALID') throw error
    return undefined
  }
}

const names = fc.oneof(fc.constantFrom('alg', 'kid', 'typ', 'crit', 'b64', 'zip', 'x', '__proto__', 'constructor'), fc.string({ maxLength: 3 }))
const object = (depth: number) => fc.letrec<{ value: unknown, members: unknown }>((tie) => ({
  value: fc.oneof({ maxDepth: depth, withCrossShrink: true }, fc.oneof(fc.string(), fc.double(), fc.boolean(), fc.constant(null)), fc.array(tie('value'), { maxLength: 3 }), tie('members')),
  // Written member by member, so that `__proto__` is one, and a name may come twice.
  members: fc.array(fc.tuple(names, tie('value')), { maxLength: 4 })
})).members.map((members) => membersText(members as readonly [string, unknown][]))

function membersText (members: readonly (readonly [string, unknown])[]): string {
  const text = (value: unknown): string => {
    if (!Array.isArray(value)) return JSON.stringify(value)
    const isMembers = value.length > 0 && value.every((entry) => Array.isArray(entry) && entry.length === 2 && typeof entry[0] === 'string')
    return isMembers ? membersText(value as [string, unknown][]) : `[${value.map(text).join(',')}]`
  }
  return `{${members.map(([name, value]) => `${JSON.stringify(name)}:${text(value)}`).join(',')}}`
}

const header = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(object(1), fc.string()).map(([rest, alg]) => `{"alg":${JSON.stringify(alg)}${rest === '{}' ? '' : ','}${rest.slice(1)}`) },
  { weight: 1, arbitrary: fc.oneof(object(1), fc.json()) }
)
const payload = fc.oneof({ weight: 4, arbitrary: object(4) }, { weight: 1, arbitrary: fc.oneof(fc.json(), fc.string({ unit: 'binary' }), fc.nat({ max: 60 }).map((depth) => `{"a":${'['.repeat(depth)}${']'.repeat(depth)}}`)) })
const signature = fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString('base64url'))
const wellFormed = fc.tuple(header, payload, signature).map(([head, body, last]) => `${encode(head)}.${encode(body)}.${last}`)
const binary = fc.uint8Array({ maxLength: 20 }).map((bytes): Part => Buffer.from(bytes))
const changed = fc.tuple(wellFormed, fc.nat(), fc.oneof(fc.constantFrom('', '.', '=', ' ', '\n', '+', '/', '-', '_', 'A', '\0', 'é'), fc.string({ maxLength: 2 })), fc.nat({ max: 1 }))
  .map(([token, at, text, removed]) => token.slice(0, at % (token.length + 1)) + text + token.slice(at % (token.length + 1) + removed))
const loose = fc.array(fc.oneof(fc.string(), binary.map(encode), object(2).map(encode)), { maxLength: 5 }).map((parts) => parts.join('.'))

t.test('reads exactly the tokens that an independent reader reads, and the same from them', async (t) => {
  let accepted = 0
  fc.assert(fc.property(fc.oneof(wellFormed, changed, loose), (token) => {
    const expected = oracle(token)
    const found = parsed(token)
    if (expected !== undefined) accepted++
    return isDeepStrictEqual(found, expected)
  }), { numRuns: 3_000 })
  t.ok(accepted > 300, `${accepted} of 3000 could be read`)
})

t.test('takes base64url in its one spelling', async (t) => {
  let taken = 0
  fc.assert(fc.property(fc.oneof(fc.uint8Array({ maxLength: 9 }).map((bytes) => Buffer.from(bytes).toString('base64url')), fc.string({ maxLength: 6 }), fc.base64String({ maxLength: 12 }), fc.string({ unit: fc.constantFrom(...'AQgwEI89-_=+/ \n'), maxLength: 6 })), (text) => {
    if (isBase64Url(text)) taken++
    return isBase64Url(text) === (Buffer.from(text, 'base64url').toString('base64url') === text)
  }), { numRuns: 3_000 })
  t.ok(taken > 500 && taken < 2_500, `${taken} of 3000 were taken`)
})

t.test('takes no byte order mark for nothing', async (t) => {
  const [header, body] = ['{"alg":"HS256"}', '{}']
  t.ok(parsed(`${encode(header)}.${encode(body)}.`))
  for (const [head, claims] of [[`\ufeff${header}`, body], [header, `\ufeff${body}`]] as const) t.equal(parsed(`${encode(head)}.${encode(claims)}.`), undefined)
})

t.test('freezes claims to the bottom', async (t) => {
  const claims = readClaims(parseToken(`${encode({ alg: 'HS256' })}.${encode('{"a":[{"b":{}}],"__proto__":{"c":{}}}')}.`))
  const found = claims as { a: { b: object }[] }
  for (const value of [claims, found.a, found.a[0], found.a[0]!.b]) t.ok(Object.isFrozen(value))
  t.same(claims, { a: [{ b: {} }] })
  t.ok(Object.isFrozen(parseToken(`${encode({ alg: 'HS256' })}.${encode('{}')}.`).header))
})
