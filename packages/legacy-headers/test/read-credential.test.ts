import { isAuthError, reasonOf } from '@sallyport/guard'
import fc from 'fast-check'
import type { FastifyRequest } from 'fastify'
import t from 'tap'
import { createCredentialReader, isAccessToken, isCanonicalInteger } from '../src/read-credential.js'

type Lines = readonly (readonly [name: string, value: string])[]

const reader = createCredentialReader({
  tenantNames: ['company_id', 'company-id'],
  tokenNames: ['access_token', 'access-token'],
  isTenant: isCanonicalInteger
})

const requestOf = (lines: Lines): FastifyRequest => ({ raw: { rawHeaders: lines.flat() } }) as unknown as FastifyRequest

/** What the reader says, as one comparable text. */
function read (lines: Lines): string {
  try {
    const { tenant, token } = reader.readCredential(requestOf(lines))
    return `${tenant} ${token}`
  } catch (error) {
    if (!isAuthError(error)) throw error
    return `${error.code.replace('ERR_LEGACY_HEADERS_CREDENTIALS_', '')} ${reasonOf(error)}`
  }
}

t.test('reads one credential or says why there is none', async (t) => {
  const cases: readonly (readonly [string, Lines, string])[] = [
    ['both with underscores', [['company_id', '1'], ['access_token', 'abc']], '1 abc'],
    ['both with dashes', [['company-id', '1'], ['access-token', 'abc']], '1 abc'],
    ['one of each spelling', [['company-id', '1'], ['access_token', 'abc']], '1 abc'],
    ['names in any case and order', [['Access_Token', 'abc'], ['COMPANY_ID', '1']], '1 abc'],
    ['tenant zero', [['company_id', '0'], ['access_token', 'abc']], '0 abc'],
    ['the largest safe integer', [['company_id', '9007199254740991'], ['access_token', 'abc']], '9007199254740991 abc'],
    ['a token of 1,024 characters', [['company_id', '1'], ['access_token', 'a'.repeat(1_024)]], `1 ${'a'.repeat(1_024)}`],

    ['no token', [['company_id', '1']], 'INCOMPLETE token-header-missing'],
    ['no tenant', [['access_token', 'abc']], 'INCOMPLETE tenant-header-missing'],
    ['no token beside a dashed tenant', [['company-id', '1']], 'INCOMPLETE token-header-missing-underscore-dropped'],
    ['no tenant beside a dashed token', [['access-token', 'abc']], 'INCOMPLETE tenant-header-missing-underscore-dropped'],

    ['the tenant twice', [['company_id', '1'], ['company_id', '2'], ['access_token', 'abc']], 'AMBIGUOUS header-repeated'],
    ['the same tenant twice', [['company_id', '1'], ['Company_Id', '1'], ['access_token', 'abc']], 'AMBIGUOUS header-repeated'],
    ['the same token twice', [['company_id', '1'], ['access_token', 'abc'], ['access_token', 'abc']], 'AMBIGUOUS header-repeated'],
    ['the tenant in both spellings', [['company_id', '1'], ['company-id', '1'], ['access_token', 'abc']], 'AMBIGUOUS header-in-both-spellings'],
    ['the token in both spellings', [['access-token', 'abc'], ['access_token', 'abd'], ['company_id', '1']], 'AMBIGUOUS header-in-both-spellings'],
    ['joined tenants', [['company_id', '1, 2'], ['access_token', 'abc']], 'AMBIGUOUS header-joined'],
    ['joined tokens', [['company_id', '1'], ['access_token', 'abc,abc']], 'AMBIGUOUS header-joined'],

    ['an empty tenant', [['company_id', ''], ['access_token', 'abc']], 'INVALID tenant-malformed'],
    ['leading zeros', [['company_id', '01'], ['access_token', 'abc']], 'INVALID tenant-malformed'],
    ['a sign', [['company_id', '+1'], ['access_token', 'abc']], 'INVALID tenant-malformed'],
    ['an exponent', [['company_id', '1e3'], ['access_token', 'abc']], 'INVALID tenant-malformed'],
    ['hexadecimal', [['company_id', '0x1'], ['access_token', 'abc']], 'INVALID tenant-malformed'],
    ['a fraction', [['company_id', '1.0'], ['access_token', 'abc']], 'INVALID tenant-malformed'],
    ['other digits', [['company_id', '١'], ['access_token', 'abc']], 'INVALID tenant-malformed'],
    ['an unsafe integer', [['company_id', '9007199254740992'], ['access_token', 'abc']], 'INVALID tenant-malformed'],
    ['a number of a thousand digits', [['company_id', '1'.repeat(1_000)], ['access_token', 'abc']], 'INVALID tenant-malformed'],
    ['white space around the tenant', [['company_id', ' 1'], ['access_token', 'abc']], 'INVALID tenant-malformed'],
    ['an empty token', [['company_id', '1'], ['access_token', '']], 'INVALID token-malformed'],
    ['a token of 1,025 characters', [['company_id', '1'], ['access_token', 'a'.repeat(1_025)]], 'INVALID token-malformed'],
    ['a space in the token', [['company_id', '1'], ['access_token', 'Bearer abc']], 'INVALID token-malformed'],
    ['a letter beyond ASCII', [['company_id', '1'], ['access_token', 'abc\xe9']], 'INVALID token-malformed'],
    ['a line feed after the token', [['company_id', '1'], ['access_token', 'abc\n']], 'INVALID token-malformed']
  ]
  for (const [title, lines, expected] of cases) t.equal(read(lines), expected, title)
})

t.test('knows underscores to be dropped only where the missing name has one and the present name has none', async (t) => {
  const dashed = createCredentialReader({ tenantNames: ['x-company'], tokenNames: ['x-token'], isTenant: isCanonicalInteger })
  const mixed = createCredentialReader({ tenantNames: ['x-company'], tokenNames: ['access_token'], isTenant: isCanonicalInteger })
  const reasonFor = ({ readCredential }: typeof reader): string | undefined => {
    try {
      readCredential(requestOf([['X-Company', '1']]))
      return undefined
    } catch (error) {
      return isAuthError(error) ? reasonOf(error) : undefined
    }
  }
  t.equal(reasonFor(dashed), 'token-header-missing')
  t.equal(reasonFor(mixed), 'token-header-missing-underscore-dropped')
})

t.test('finds a credential presented by any of its four names, whatever their values', async (t) => {
  for (const name of ['company_id', 'company-id', 'access_token', 'access-token', 'ACCESS_TOKEN']) {
    t.equal(reader.isPresented(requestOf([['Host', 'x'], [name, '']])), true, name)
  }
  for (const name of ['companyid', 'company__id', 'company_id_', 'x-company_id', 'authorization', 'access.token']) {
    t.equal(reader.isPresented(requestOf([['Host', 'x'], [name, '1']])), false, name)
  }
  t.equal(reader.isPresented(requestOf([])), false)
})

t.test('asks a tenant format only about text that may be a tenant at all', async (t) => {
  const asked: string[] = []
  const { readCredential } = createCredentialReader({ tenantNames: ['t'], tokenNames: ['k'], isTenant: (text) => asked.push(text) > 0 })
  t.same(readCredential(requestOf([['t', 'acme'], ['k', 'abc']])), { tenant: 'acme', token: 'abc' })
  for (const tenant of ['', ' acme', 'a'.repeat(65), 'acmé', 'a\0b']) t.throws(() => readCredential(requestOf([['t', tenant], ['k', 'abc']])))
  t.same(asked, ['acme'])
})

/** Says the same by other means: by sorting all lines into two heaps first. */
function oracle (lines: Lines): string {
  const heap = (half: string) => lines.filter(([name]) => name.toLowerCase().replace('-', '_') === half)
  const [tenants, tokens] = [heap('company_id'), heap('access_token')]
  for (const found of [tenants, tokens]) {
    if (found.length > 1 || found.some(([, value]) => value.split(',').length > 1)) return 'AMBIGUOUS'
  }
  if (tenants.length === 0 && tokens.length === 0) return 'ABSENT'
  if (tenants.length === 0 || tokens.length === 0) return 'INCOMPLETE'
  const [tenant, token] = [tenants[0]![1], tokens[0]![1]]
  const isWhole = tenant !== '' && [...tenant].every((digit) => '0123456789'.includes(digit)) && BigInt(tenant).toString() === tenant && BigInt(tenant) < 2n ** 53n
  const isVisible = token !== '' && token.length <= 1_024 && [...token].every((letter) => letter > ' ' && letter < '\x7f')
  return isWhole && isVisible ? `${tenant} ${token}` : 'INVALID'
}

t.test('agrees with an oracle that reads the lines by other means', async () => {
  const anyCase = (name: string) => fc.array(fc.boolean(), { minLength: name.length, maxLength: name.length })
    .map((upper) => [...name].map((letter, i) => upper[i] === true ? letter.toUpperCase() : letter).join(''))
  const name = fc.constantFrom('company_id', 'company-id', 'access_token', 'access-token', 'host', 'company.id', 'companyid', 'user-agent', 'content-type').chain(anyCase)
  const value = fc.oneof(
    fc.nat().map(String),
    fc.bigInt({ min: 0n, max: 2n ** 54n }).map(String),
    fc.constantFrom('', '0', '00', '01', '-1', ' 1', '1 ', '1,2', '1, 1', '9007199254740991', '9007199254740992', 'abc', 'a b', '\xe9', '\u2028', 'a'.repeat(1_024), 'a'.repeat(1_025)),
    fc.string({ unit: 'binary', maxLength: 12 })
  )
  const lines = fc.array(fc.tuple(name, value), { maxLength: 5 })
  const both = fc.tuple(value, value, lines).map(([tenant, token, more]): Lines => [['company_id', tenant], ['access-token', token], ...more.slice(3)])
  fc.assert(fc.property(fc.oneof(lines, both), (given) => {
    const expected = oracle(given)
    if (reader.isPresented(requestOf(given)) !== (expected !== 'ABSENT')) return false
    if (expected === 'ABSENT') return true
    const actual = read(given)
    return expected.includes(' ') ? actual === expected : actual.startsWith(`${expected} `)
  }), { numRuns: 3_000 })
})

t.test('takes as a token exactly 1 to 1,024 visible ASCII characters without a comma', async (t) => {
  const allowed = Array.from({ length: 0x180 }, (_, code) => String.fromCharCode(code)).filter((letter) => isAccessToken(`a${letter}`) && isAccessToken(letter))
  t.equal(allowed.join(''), '!"#$%&\'()*+-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~')
})
