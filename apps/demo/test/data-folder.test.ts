import { X509Certificate } from 'node:crypto'
import { chmodSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openAccounts } from '../src/accounts.js'
import { loadCertificate } from '../src/certificate.js'
import { documentedExample, openCompanies } from '../src/companies.js'
import { appFolder, readConfig } from '../src/config.js'
import { openKeyRings } from '../src/key-rings.js'
import { spellingsOf, tempFolder } from './fixtures/demo.js'

t.test('the environment is checked and named', (t) => {
  const config = readConfig({ PORT: '', DATA_DIR: '', TRUST_PROXY: '10.0.0.0/8, 192.0.2.1' })
  t.match(config, { port: 8443, host: '127.0.0.1', tls: true, logLevel: 'info', redisUrl: undefined, dataFolder: join(appFolder, '.data'), trustProxy: ['10.0.0.0/8', '192.0.2.1'] })
  t.ok(Object.isFrozen(config))
  t.equal(readConfig({ DATA_DIR: 'elsewhere' }).dataFolder, join(appFolder, 'elsewhere'), 'relative to the app, not to where it was started')
  const wrong: readonly (readonly [name: string, value: string])[] = [
    ['PORT', '-1'], ['PORT', '65536'], ['PORT', '1e3'], ['HOST', 'a b'], ['TLS', 'no'], ['TLS', 'off'], ['LOG_LEVEL', 'loud'],
    ['TRUST_PROXY', 'true'], ['TRUST_PROXY', '1'], ['TRUST_PROXY', '0.0.0.0/0'], ['TRUST_PROXY', '::ffff:10.0.0.0/104'], ['TRUST_PROXY', 'loopback'],
    ['REDIS_URL', 'http://:hunter2@localhost'], ['LEGACY_SUNSET_AT', '2030-02-31T25:00:00Z'], ['LEGACY_SUNSET_AT', '1/1/2030'],
    ['LEGACY_BROWNOUTS', '2027-01-01'], ['LEGACY_BROWNOUTS', '2027-01-01/2027-01-02/2027-01-03'], ['LEGACY_DEPRECATED_AT', '2024-01-01T00:00:00']
  ]
  for (const [name, value] of wrong) {
    try {
      readConfig({ [name]: value })
      t.fail(`${name}=${value} was taken`)
    } catch (error) {
      t.match((error as Error).message, name === 'TLS' && value === 'off' ? /^TRUST_PROXY must/ : new RegExp(`^${name} must`), `${name}=${value}`)
      t.notMatch((error as Error).message, 'hunter2')
    }
  }
  t.end()
})

t.test('the certificate is made once, for its owner, and anew when it no longer serves', async (t) => {
  const folder = tempFolder(t)
  const now = Date.now()
  const first = await loadCertificate({ folder, now })
  const names = new X509Certificate(first.cert).subjectAltName
  for (const name of ['localhost', 'api.localhost', 'sandbox.localhost', '127.0.0.1', '0:0:0:0:0:0:0:1']) t.match(names, name)
  t.notOk(new X509Certificate(first.cert).ca, 'it can sign nothing else')
  t.same(await loadCertificate({ folder, now }), first, 'the second start takes the same')
  t.not((await loadCertificate({ folder, now, host: '192.0.2.5' })).cert, first.cert, 'another host')
  t.match(new X509Certificate((await loadCertificate({ folder, now, host: '0.0.0.0' })).cert).subjectAltName, '192.0.2.5')
  const renewed = await loadCertificate({ folder, now: now + 360 * 86_400_000 })
  t.ok(renewed.validUntil > first.validUntil, 'expired')
  writeFileSync(join(folder, 'certificate.key'), first.key)
  t.not((await loadCertificate({ folder, now })).cert, renewed.cert, 'the key of another')
  writeFileSync(join(folder, 'certificate.pem'), 'broken')
  t.match((await loadCertificate({ folder, now })).cert, /^-----BEGIN CERTIFICATE-----/)
})

t.test('the data folder is its owner\'s, and secrets lie in it sealed', async (t) => {
  const folder = join(tempFolder(t), 'new', 'folder')
  const companies = await openCompanies({ folder })
  await loadCertificate({ folder, now: Date.now() })
  const { secret } = await companies.add({ name: 'One' })
  const modes = Object.fromEntries(readdirSync(folder).map((name) => [name, (statSync(join(folder, name)).mode & 0o777).toString(8)]))
  t.same(modes, { 'certificate.key': '600', 'certificate.pem': '644', 'companies.json': '600', 'companies.key': '600' }, 'and no leftovers')
  t.equal((statSync(folder).mode & 0o777).toString(8), '700')
  const path = join(folder, 'companies.json')
  const text = readFileSync(path, 'utf8')
  for (const spelling of [...spellingsOf(secret), ...spellingsOf(documentedExample.accessToken)]) t.notOk(text.includes(spelling))
  await companies.setAllowlist({ id: '100001', allow: ['10.0.0.1'] })
  t.notMatch(readFileSync(path, 'utf8'), (JSON.parse(text) as { companies: { secrets: { sealed: string }[] }[] }).companies[0]!.secrets[0]!.sealed, 'sealed anew with each change')
})

t.test('a register that was tampered with is not believed', async (t) => {
  const folder = tempFolder(t)
  await openCompanies({ folder })
  const path = join(folder, 'companies.json')
  const text = readFileSync(path, 'utf8')
  interface Stored { id: string, name: string, secrets: { id: string, sealed: string, notAfter?: string }[], allow?: string[], more?: true }
  const tampered: Readonly<Record<string, (companies: [Stored, Stored, ...Stored[]]) => unknown>> = {
    'a secret moved to another company': ([one, two]) => { one.secrets = two.secrets },
    'a sealed secret changed': ([one]) => { one.secrets[0]!.sealed = one.secrets[0]!.sealed.replace(/^../, 'AA') },
    'a sealed secret cut short': ([one]) => { one.secrets[0]!.sealed = 'AAAA' },
    'no secrets': ([one]) => { one.secrets = [] },
    'too many secrets': ([one]) => { one.secrets = Array.from({ length: 17 }, () => one.secrets[0]!) },
    'an id twice': ([one, two]) => { two.id = one.id },
    'an id with a leading zero': ([one]) => { one.id = '0100001' },
    'no name': ([one]) => { one.name = '' },
    'an empty allowlist': ([one]) => { one.allow = [] },
    'an IPv6 allowlist': ([one]) => { one.allow = ['::1'] },
    'a date that is none': ([one]) => { one.secrets[0]!.notAfter = 'soon' },
    'an unknown member': ([one]) => { one.more = true }
  }
  for (const [what, tamper] of Object.entries(tampered)) {
    const register = JSON.parse(text) as { companies: [Stored, Stored, ...Stored[]] }
    tamper(register.companies)
    writeFileSync(path, JSON.stringify(register))
    await t.rejects(openCompanies({ folder }), /company register|"companies/, what)
  }
  rmSync(path)
  t.equal((await openCompanies({ folder })).list().length, 4, 'without a register a new one is made, under the same key')
})

t.test('keys and accounts that were tampered with are not believed', async (t) => {
  const folder = tempFolder(t)
  await openAccounts({ folder })
  await openKeyRings({ folder })
  interface Key { id: string, sealed: string, notAfter?: string }
  type Rings = Record<'production' | 'sandbox' | 'commerce', { signing: [Key, ...Key[]], encryption: Key[] }>
  const tampered: Readonly<Record<string, (rings: Rings) => unknown>> = {
    'keys of the sandbox in production': (rings) => { rings.production.signing = rings.sandbox.signing },
    'a signing key that seals': ({ production }) => { production.encryption = production.signing },
    'a sealed key changed': ({ sandbox: { signing: [key] } }) => { key.sealed = key.sealed.replace(/^../, 'AA') },
    'another id': ({ commerce: { signing: [key] } }) => { key.id = 'other' },
    'no signing key in use': ({ commerce: { signing: [key] } }) => { key.notAfter = '2030-01-01T00:00:00Z' },
    'nothing to seal with': ({ production }) => { production.encryption = [] },
    'an end that is none': ({ commerce: { signing: [key] } }) => { key.notAfter = 'soon' },
    'no list': ({ commerce }) => Object.assign(commerce, { signing: {} }),
    'a ring too few': (rings) => Reflect.deleteProperty(rings, 'sandbox'),
    'a ring too many': (rings) => Object.assign(rings, { more: rings.commerce })
  }
  const [keys, accounts] = [join(folder, 'keys.json'), join(folder, 'accounts.json')]
  const text = readFileSync(keys, 'utf8')
  for (const [what, tamper] of Object.entries(tampered)) {
    const rings = JSON.parse(text) as Rings
    tamper(rings)
    writeFileSync(keys, JSON.stringify(rings))
    await t.rejects(openKeyRings({ folder }), /key register/, what)
  }
  writeFileSync(keys, text)
  const rings = await openKeyRings({ folder })
  const { signing: [key] } = await rings.rotate({ name: 'commerce', overlapMs: 1_000 })
  for (const each of rings.of('commerce').signing) for (const spelling of spellingsOf(each.key.export().toString('base64url'))) t.notOk(readFileSync(keys, 'utf8').includes(spelling))
  t.ok(key!.notAfter instanceof Date)
  const own = { slug: 'a', name: 'A' }
  for (const list of [[{ ...own, slug: 'A' }], [{ ...own, slug: 'a--b' }], [{ ...own, slug: '' }], [{ slug: 'a' }], [own, own], [{ ...own, revokedAt: 'soon' }], [{ ...own, more: 1 }]]) {
    writeFileSync(accounts, JSON.stringify({ accounts: list }))
    await t.rejects(openAccounts({ folder }), /account register/, JSON.stringify(list))
  }
})

t.test('the running register reports a file that it can\'t read, and takes the next good one', async (t) => {
  const folder = tempFolder(t)
  const errors: unknown[] = []
  const companies = await openCompanies({ folder, onUnreadable: (error) => errors.push(error) })
  const path = join(folder, 'companies.json')
  const text = readFileSync(path, 'utf8')
  rmSync(path)
  t.equal(companies.list().length, 4)
  t.equal(companies.list().length, 4)
  t.equal(errors.length, 1)
  writeFileSync(path, text)
  chmodSync(path, 0o600)
  const before = companies.find('100001')
  t.ok(before)
  t.equal(companies.find('100001'), before, 'the same object until it changes')
  t.equal(errors.length, 1)
  writeFileSync(`${path}.lock`, '')
  await t.rejects(companies.add({ name: 'Waiting' }), /another command holds .*companies\.json\.lock/)
})
