import { inspect } from 'node:util'
import { isOptionsError } from '@sallyport/guard'
import Fastify from 'fastify'
import t from 'tap'
import { hashAccessToken, legacyHeaders, type DeprecationOptions, type LegacyHeadersOptions } from '../src/index.js'
import { parseDigest } from '../src/verify-credential.js'
import { accepted, at, credential, testApp, TENANT, TOKEN, validOptions } from './fixtures/app.js'

const digest = hashAccessToken(TOKEN)
const token = { digest }
const deprecatedAt = at('2026-01-01T00:00:00Z')
const sunsetAt = at('2027-01-01T00:00:00Z')

/** Registers with wrong options, and gives the option that the error names, with the rule. */
async function complaintAbout (options: object): Promise<string> {
  const app = Fastify()
  try {
    await app.register(legacyHeaders, options as LegacyHeadersOptions)
    return 'accepted'
  } catch (error) {
    if (!isOptionsError(error)) throw error
    return error.message.replace('@sallyport/legacy-headers: option ', '')
  } finally {
    await app.close()
  }
}

const withTokens = (tokens: unknown): object => ({ credentials: [{ tenant: TENANT, tokens }] })
const withDeprecation = (deprecation: object): object => ({ ...validOptions(), deprecation: { deprecatedAt, ...deprecation } })
const isNoDigest = '"credentials[0].tokens[0].digest" must be the SHA-256 of a token'
const isNoDate = 'must be a valid Date between 1970 and 9999'

t.test('refuses wrong options by name, and says the rule', async (t) => {
  const cases: readonly (readonly [title: string, options: object, complaint: string])[] = [
    ['an unknown option', { ...validOptions(), tokens: [] }, '"tokens" is unknown'],
    ['no credentials', {}, '"credentials" is required'],
    ['an empty list', { credentials: [] }, '"credentials" must be a non-empty list'],
    ['credentials as an object', { credentials: { [TENANT]: [token] } }, '"credentials" must be a non-empty list'],
    ['an unknown name in a tenant', { credentials: [{ tenant: TENANT, tokens: [token], token }] }, '"credentials[0].token" is unknown'],
    ['no tenant', { credentials: [{ tokens: [token] }] }, '"credentials[0].tenant" is required'],
    ['a tenant as a number', { credentials: [{ tenant: 100001, tokens: [token] }] }, '"credentials[0].tenant" must be a non-empty string'],
    ['a tenant that could never match', { credentials: [{ tenant: '0100001', tokens: [token] }] }, '"credentials[0].tenant" does not have the tenantFormat'],
    ['a tenant twice', { credentials: [{ tenant: TENANT, tokens: [token] }, { tenant: TENANT, tokens: [token] }] }, '"credentials[1].tenant" is listed before'],
    ['no tokens', withTokens(undefined), '"credentials[0].tokens" must be a list'],
    ['an empty list of tokens', withTokens([]), '"credentials[0].tokens" must not be empty'],
    ['17 tokens', withTokens(Array.from({ length: 17 }, (_, i) => ({ digest: hashAccessToken(`t${i}`) }))), '"credentials[0].tokens" must not hold more than 16'],
    ['a list with holes', withTokens(new Array(1)), isNoDigest],
    ['a bare digest', withTokens([digest]), '"credentials[0].tokens[0]" must be an object'],
    ['a token in clear', withTokens([{ token: TOKEN }]), '"credentials[0].tokens[0].token" is unknown'],
    ['a token in clear as digest', withTokens([{ digest: TOKEN }]), isNoDigest],
    ['an empty digest', withTokens([{ digest: '' }]), isNoDigest],
    ['no bytes as digest', withTokens([{ digest: new Uint8Array(0) }]), isNoDigest],
    ['the digest of nothing', withTokens([{ digest: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' }]), isNoDigest],
    ['a token twice in two forms', withTokens([token, { digest: Buffer.from(digest, 'hex') }]), '"credentials[0].tokens[1].digest" is that of an earlier token'],
    ['an id twice', withTokens([{ digest, id: 'a' }, { digest: hashAccessToken('b'), id: 'a' }]), '"credentials[0].tokens[1].id" is that of an earlier token'],
    ['an empty id', withTokens([{ digest, id: '' }]), '"credentials[0].tokens[0].id" must be a non-empty string'],
    ['a date as text', withTokens([{ digest, notAfter: '2027-01-01' }]), `"credentials[0].tokens[0].notAfter" ${isNoDate}`],
    ['a date as null', withTokens([{ digest, notAfter: null }]), `"credentials[0].tokens[0].notAfter" ${isNoDate}`],
    ['an invalid date', withTokens([{ digest, notBefore: new Date(NaN) }]), `"credentials[0].tokens[0].notBefore" ${isNoDate}`],
    ['a lifetime of nothing', withTokens([{ digest, notBefore: sunsetAt, notAfter: sunsetAt }]), '"credentials[0].tokens[0].notAfter" must be later than notBefore'],
    ['a header name with a space', { ...validOptions(), tenantHeader: 'company id' }, '"tenantHeader" must be a header name'],
    ['one header for both', { ...validOptions(), tenantHeader: 'x-key', tokenHeader: 'X_Key' }, '"tokenHeader" must be another header than tenantHeader'],
    ['a regular expression as format', { ...validOptions(), tenantFormat: /^\d+$/g }, '"tenantFormat" must be "integer" or a function'],
    ['another format', { ...validOptions(), tenantFormat: 'uuid' }, '"tenantFormat" must be "integer" or a function'],
    ['aliases by name', { ...validOptions(), dashedAliases: 'company-id' }, '"dashedAliases" must be true or false'],
    ['hideCredentials as text', { ...validOptions(), hideCredentials: 'no' }, '"hideCredentials" must be true or false'],
    ['a time limit for a list', { ...validOptions(), resolverTimeoutMs: 10 }, '"resolverTimeoutMs" needs a resolver'],
    ['no time at all', { credentials: () => undefined, resolverTimeoutMs: 0 }, '"resolverTimeoutMs" must be a whole number, 1 to 60000'],

    ['deprecation as a date', { ...validOptions(), deprecation: deprecatedAt, clock: undefined }, '"deprecation.deprecatedAt" is required'],
    ['an unknown name in deprecation', withDeprecation({ sunset: sunsetAt }), '"deprecation.sunset" is unknown'],
    ['no deprecation date', withDeprecation({ deprecatedAt: undefined }), '"deprecation.deprecatedAt" is required'],
    ['seconds as a date', withDeprecation({ deprecatedAt: 1_767_225_600 }), `"deprecation.deprecatedAt" ${isNoDate}`],
    ['a date before 1970', withDeprecation({ deprecatedAt: new Date(-1) }), `"deprecation.deprecatedAt" ${isNoDate}`],
    ['a year of five digits', withDeprecation({ sunsetAt: new Date(Date.UTC(10_000, 0)) }), `"deprecation.sunsetAt" ${isNoDate}`],
    ['a sunset before the deprecation', withDeprecation({ sunsetAt: at('2025-12-31T23:59:59Z') }), '"deprecation.sunsetAt" must not be earlier than deprecatedAt (RFC 9745 section 4)'],
    ['a relative link', withDeprecation({ link: '/docs' }), '"deprecation.link" must be an absolute http or https URL'],
    ['a link to a script', withDeprecation({ link: 'javascript:alert(1)' }), '"deprecation.link" must be an absolute http or https URL'],
    ['a link with a user', withDeprecation({ link: 'https://a@example.com/' }), '"deprecation.link" must be an absolute http or https URL'],
    ['a link with a secret', withDeprecation({ link: 'https://:b@example.com/' }), '"deprecation.link" must be an absolute http or https URL'],
    ['a link with a password', withDeprecation({ link: 'https://a:b@example.com/' }), '"deprecation.link" must be an absolute http or https URL'],
    ['an empty list of brown-outs', withDeprecation({ brownouts: [] }), '"deprecation.brownouts" must be a non-empty list'],
    ['a brown-out without an end', withDeprecation({ brownouts: [{ from: deprecatedAt }] }), '"deprecation.brownouts[0].to" is required'],
    ['a brown-out of nothing', withDeprecation({ brownouts: [{ from: sunsetAt, to: sunsetAt }] }), '"deprecation.brownouts[0].to" must be later than from'],
    ['a brown-out before the deprecation', withDeprecation({ brownouts: [{ from: at('2025-12-31T00:00:00Z'), to: sunsetAt }] }), '"deprecation.brownouts[0].from" must not be earlier than deprecatedAt'],
    ['a brown-out after the end', withDeprecation({ sunsetAt, brownouts: [{ from: deprecatedAt, to: at('2027-01-01T00:00:01Z') }] }), '"deprecation.brownouts[0].to" must not be later than the last sunset'],
    ['overlapping brown-outs', withDeprecation({ brownouts: [{ from: at('2026-02-01T00:00:00Z'), to: sunsetAt }, { from: deprecatedAt, to: at('2026-02-01T00:00:01Z') }] }), '"deprecation.brownouts" must not overlap'],
    ['an extension of nothing', withDeprecation({ extensions: [{ tenant: TENANT, sunsetAt }] }), '"deprecation.extensions" need a sunsetAt'],
    ['an extension that shortens', withDeprecation({ sunsetAt, extensions: [{ tenant: TENANT, sunsetAt }] }), '"deprecation.extensions[0].sunsetAt" must be later than deprecation.sunsetAt'],
    ['an extension for nobody', withDeprecation({ sunsetAt, extensions: [{ tenant: 'acme', sunsetAt: at('2028-01-01T00:00:00Z') }] }), '"deprecation.extensions[0].tenant" does not have the tenantFormat'],
    ['two extensions for one', withDeprecation({ sunsetAt, extensions: [1, 2].map(() => ({ tenant: TENANT, sunsetAt: at('2028-01-01T00:00:00Z') })) }), '"deprecation.extensions[1].tenant" is listed before']
  ]
  for (const [title, options, complaint] of cases) {
    const given = await complaintAbout(options)
    t.ok(given.startsWith(complaint), `${title}: ${given}`)
    t.notMatch(given, TOKEN, `${title}: no secret in the message`)
  }
})

t.test('accepts what stands at the edge of the rules', async (t) => {
  const brownouts = [{ from: at('2026-02-01T00:00:00Z'), to: sunsetAt }, { from: deprecatedAt, to: at('2026-02-01T00:00:00Z') }]
  const cases: readonly (readonly [title: string, options: object])[] = [
    ['a sunset at the deprecation', withDeprecation({ sunsetAt: deprecatedAt })],
    ['brown-outs that touch, in any order', withDeprecation({ sunsetAt, brownouts })],
    ['a brown-out in the time of an extension', withDeprecation({ sunsetAt, extensions: [{ tenant: TENANT, sunsetAt: at('2028-01-01T00:00:00Z') }], brownouts: [{ from: sunsetAt, to: at('2027-02-01T00:00:00Z') }] })],
    ['16 tokens', withTokens(Array.from({ length: 16 }, (_, i) => ({ digest: hashAccessToken(`t${i}`) })))],
    ['one token of two tenants', { credentials: [{ tenant: '1', tokens: [token] }, { tenant: '2', tokens: [token] }] }],
    ['twins of one name without aliases', { ...validOptions(), tenantHeader: 'x-key', tokenHeader: 'x_key', dashedAliases: false }]
  ]
  for (const [title, options] of cases) t.equal(await complaintAbout(options), 'accepted', title)
})

t.test('reads a digest in each documented form and in no other', async (t) => {
  const bytes = Buffer.from(digest, 'hex')
  const base64url = bytes.toString('base64url')
  for (const form of [digest, digest.toUpperCase(), base64url, bytes, new Uint8Array(bytes)]) t.same(parseDigest(form), bytes)
  const spareBits = base64url.slice(0, -1) + String.fromCharCode(base64url.charCodeAt(42) + 1)
  for (const form of [
    undefined, null, 0, '', 'abc', digest.slice(1), `${digest}0`, ` ${digest}`, `${digest}\n`, digest.replace(/^./, 'g'), base64url.slice(1), `${base64url}=`, spareBits,
    Buffer.from('a'.repeat(33)).toString('base64'), bytes.subarray(1), Buffer.concat([bytes, bytes]), [...bytes], { digest }, new Uint16Array(32)
  ]) {
    t.equal(parseDigest(form), undefined, inspect(form))
  }
})

t.test('hashes a token as SHA-256 in hexadecimal, and refuses what could never arrive', async (t) => {
  t.equal(hashAccessToken('abc'), 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')
  for (const wrong of ['', ' ', 'a b', 'a,b', 'a\n', 'é', 'a'.repeat(1_025), undefined, 5, Buffer.from('abc')]) {
    t.throws(() => hashAccessToken(wrong as string), { name: 'TypeError', message: 'an access token must be 1 to 1,024 visible ASCII characters without a comma' })
  }
})

t.test('takes nothing over by reference: neither dates nor bytes nor lists', async (t) => {
  const notAfter = at('2027-01-01T00:00:00Z')
  const bytes = Buffer.from(digest, 'hex')
  const tokens = [{ digest: bytes, notAfter }]
  const sunset = at('2027-06-01T00:00:00Z')
  const deprecation: DeprecationOptions = { deprecatedAt, sunsetAt: sunset }
  const { app } = await testApp(t, { credentials: [{ tenant: TENANT, tokens }], deprecation })
  notAfter.setTime(0)
  sunset.setTime(deprecatedAt.getTime())
  bytes.fill(0)
  tokens.length = 0
  const answer = await app.inject(accepted)
  t.equal(answer.statusCode, 200)
  t.equal(answer.headers['sunset'], 'Tue, 01 Jun 2027 00:00:00 GMT')
})

t.test('reads other header names, with their dashed spelling or without', async (t) => {
  const names = { tenantHeader: 'X_Account', tokenHeader: 'X-Key' }
  const aliased = await testApp(t, names)
  const plain = await testApp(t, { ...names, dashedAliases: false })
  const cases: readonly (readonly [headers: Record<string, string>, aliased: number, plain: number])[] = [
    [{ x_account: TENANT, 'x-key': TOKEN }, 200, 200],
    [{ 'x-account': TENANT, 'x-key': TOKEN }, 200, 401],
    [{ x_account: TENANT, x_key: TOKEN }, 401, 401],
    [{ 'x-account': '5', x_account: TENANT, 'x-key': TOKEN }, 401, 200],
    [credential(), 401, 401]
  ]
  for (const [headers, withAliases, without] of cases) {
    t.equal((await aliased.app.inject({ url: '/departments', headers })).statusCode, withAliases, `aliases: ${Object.keys(headers).join()}`)
    t.equal((await plain.app.inject({ url: '/departments', headers })).statusCode, without, `no aliases: ${Object.keys(headers).join()}`)
  }
})

t.test('judges the tenant by a function, which can only refuse: when it throws, or answers with something else than true', async (t) => {
  const formats: readonly (readonly [title: string, format: (tenant: string) => unknown, status: number])[] = [
    ['true', (tenant) => /^[a-z]+$/.test(tenant), 200],
    ['false', () => false, 401],
    ['a truthy text', () => 'yes', 401],
    ['a promise', async () => true, 401],
    ['an error', () => { throw new Error('too clever') }, 401]
  ]
  for (const [title, format, status] of formats) {
    const { app } = await testApp(t, { tenantFormat: format as (tenant: string) => boolean, credentials: () => [token] })
    t.equal((await app.inject({ url: '/departments', headers: credential('acme') })).statusCode, status, title)
  }
})

t.test('names itself in the audit, with the dates', async (t) => {
  const extensions = [{ tenant: TENANT, sunsetAt: at('2028-01-01T00:00:00Z') }]
  const notes: readonly (readonly [DeprecationOptions | undefined, string])[] = [
    [undefined, 'no deprecation date'],
    [{ deprecatedAt }, 'deprecated 2026-01-01, no sunset'],
    [{ deprecatedAt, sunsetAt }, 'deprecated 2026-01-01, sunset 2027-01-01'],
    [{ deprecatedAt, sunsetAt, extensions }, 'deprecated 2026-01-01, sunset 2027-01-01, later for 1 tenant(s)']
  ]
  for (const [deprecation, note] of notes) {
    const { app } = await testApp(t, deprecation === undefined ? {} : { deprecation })
    t.match(app.printPolicies(), `GET /departments      legacyHeaders [plaintext token in a header; ${note}]\n`)
  }
})
