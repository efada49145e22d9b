import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect } from 'node:tls'
import t from 'tap'
import { openAccounts } from '../src/accounts.js'
import { loadCertificate } from '../src/certificate.js'
import { documentedExample, openCompanies } from '../src/companies.js'
import { appFolder, readConfig } from '../src/config.js'
import { openKeyRings } from '../src/key-rings.js'
import { copyDatabase, departmentsPath, needsCurl, needsRedis, redisUrl, sign, spellingsOf, tempFolder } from './fixtures/demo.js'
import { command, end, run, script, startMain } from './fixtures/processes.js'

const legacy = { company_id: documentedExample.companyId, access_token: documentedExample.accessToken }
const company = command('company')
const mint = command('mint')
const account = command('account')
const user = command('user')

t.test('main.js says what it serves and where things lie, and a kill ends it cleanly', async (t) => {
  const folder = tempFolder(t)
  const { child, output } = await startMain(t, folder, {}, { isFirstStart: true })
  t.match(output(), /GET \/health +open: liveness probe\n/)
  t.match(output(), /GET \/departments\/v3\/core\/departments +\(bearerJwt .* or legacyHeaders .*\) and ipAllowlist/)
  t.match(output(), /POST \/departments\/v3\/core\/departments +\(bearerJwt \[single use; /)
  t.match(output(), `Certificate: ${join(folder, 'certificate.pem')}`)
  t.equal(await end(child, 'SIGTERM'), 0)
})

t.test('each command that main.js prints does what is said of it', needsCurl(), async (t) => {
  const { output } = await startMain(t, join(tempFolder(t), 'a folder\'s name'), { LEGACY_BROWNOUTS: '2024-02-01/2024-02-02' })
  const commands = output().split('\n').filter((line) => /^(curl |eval |line=|token=)/.test(line))
  const answers: readonly RegExp[] = [
    /^\{"departments":\[\{"id":1,"name":"Reception"\}/,
    /^\{"id":3,"name":"Laboratory"\}/,
    /^HTTP\/1.1 200 OK[^]*deprecation: @1704067200\r\n[^]*"Administration"/,
    /^HTTP\/1.1 401 Unauthorized[^]*www-authenticate: Bearer [^]*ERR_BEARER_JWT_CLAIMS_INVALID/,
    /^HTTP\/1.1 403 Forbidden[^]*ERR_IP_ALLOWLIST_ADDRESS_DENIED/,
    /^\{"id":"[^]*"order_number":"\d+"/,
    /^\{"environment":"production","orders":\[\{[^]*"sku":"TENT-2"/,
    /^\{"id":"[^]*"token":"[^".]+\.\.[^".]+\.[^".]+\.[^".]+","use":"bearer","environment":"production","scopes":\["orders:read"\]/,
    /^HTTP\/1.1 200 OK[^]*\{"environment":"sandbox","orders":\[\]\}/,
    /^HTTP\/1.1 401 Unauthorized[^]*ERR_BEARER_JWT_TOKEN_INVALID/,
    /^HTTP\/1.1 403 Forbidden[^]*ERR_GUARD_TENANT_MISMATCH/,
    /^\{"token":"[^"]+","tokenType":"Bearer"/,
    /^\{"id":"[^]*"purpose":"Boomi Integration"/,
    /^\{"inventory":\[\{"productId":"TENT-2","facilityId":"OSLO","quantity":40\}\]\}/,
    /^\{"access_token":"[^"]+","token_type":"Bearer","expires_in":900,"refresh_token":"[^"]+"/, /^\{"access_token":[^]*ERR_BEARER_JWT_REFRESH_REUSED/,
    /^\{"id":"[^"]+","reference":"layered-gateway-\d+","amount":12500,[^]*ERR_HMAC_AUTH_SIGNATURE_REPLAYED/,
    /^\{"id":"[^"]+","reference":"rfc9421-\d+","amount":12500,/, /^\{"transactions":\[\{[^]*"rfc9421-\d+"[^]*"layered-gateway-\d+"/,
    /^HTTP\/1.1 401 Unauthorized[^]*www-authenticate: HMAC [^]*ERR_GUARD_CREDENTIAL_INCOMPLETE/, /ERR_GUARD_PRINCIPAL_CONFLICT/,
    /^HTTP\/1.1 200 OK[^]*etag: "[^]*\{"list":"merchants","entries":\[\{"entry":"127.0.0.1","note":"this machine"\},\{"entry":"::1"/,
    /^\{"list":"merchants","entries":\[\{"entry":"::1"[^[]*\]\}/, /ERR_IP_ALLOWLIST_ADDRESS_DENIED/,
    /^\{"list":"merchants","entries":\[\{"entry":"::1"[^[]*"entry":"127.0.0.1"/, /^\{"list":"merchants","changes":\[[^]*"subject":"ann"[^]*"forced":true/
  ]
  t.equal(commands.length, answers.length)
  // A store that forgot everything in a restart refuses one-shot tokens of the second in which it was made.
  await sleep(1_000)
  for (const [i, command] of commands.entries()) t.match((await run('bash', ['-c', command], {})).stdout, answers[i]!, command.replace(/.*(--company.*?)\)/, '$1'))
})

t.test('a signal lets requests end, but not for ever', async (t) => {
  const folder = tempFolder(t)
  const { child, port, ca, output, until } = await startMain(t, folder)
  const body = '{"name":"Late"}'
  const begin = async (): Promise<ReturnType<typeof connect>> => {
    const socket = connect({ port, host: '127.0.0.1', servername: 'localhost', ca })
    await once(socket, 'secureConnect')
    socket.write([`POST ${departmentsPath} HTTP/1.1`, 'Host: localhost', ...Object.entries(legacy).map((pair) => pair.join(': ')),
      'Content-Type: application/json', `Content-Length: ${body.length}`, '', body.slice(0, 5)].join('\r\n'))
    return socket
  }
  const [patient, stuck] = [await begin(), await begin()]
  stuck.on('error', () => { /* it is cut off */ })
  await until(/incoming request[^]*incoming request/)
  const startedAt = Date.now()
  const ended = end(child, 'SIGINT')
  await sleep(300)
  child.kill('SIGINT')
  patient.write(body.slice(5))
  t.match(Buffer.concat(await patient.toArray()).toString(), /^HTTP\/1.1 201 Created[^]*"Late"/)
  t.equal(await ended, 0)
  t.ok(Date.now() - startedAt < 9_000, 'within the time limit')
  t.match(output(), /Legacy headers: \{[^]*"tenant": "10238497"/, 'the report of who used the legacy headers')
})

t.test('the operator adds, rotates and restricts companies while the server runs', async (t) => {
  const folder = tempFolder(t)
  const { call, child, until } = await startMain(t, folder)
  const tokenFor = async (...args: readonly string[]): Promise<string> => (await mint(folder, ...args)).stdout.trim()

  const claims = JSON.parse(Buffer.from((await tokenFor('--company', '100001')).split('.')[1]!, 'base64url').toString()) as { exp: number, nbf: number, company_id: unknown }
  t.same({ lifetime: claims.exp - claims.nbf, id: claims.company_id }, { lifetime: 15, id: 100001 }, 'what is minted is what the documentation asks for')
  const nbf = Math.floor(Date.now() / 1000)
  t.equal((await call({ JWT: sign({ exp: nbf + 15, nbf, company_id: 10238497 }, documentedExample.accessToken) })).status, 200, 'by hand, with the documented secret')

  const added = await company(folder, 'add', 'Fjord "Foods" ø', '--allow', '203.0.113.0/24, 127.0.0.1')
  t.equal(added.code, 0)
  const [, id, secret] = /^company {2}(\d+)\n[^]*^secret {3}([\da-f]{64})$/m.exec(added.stdout)!
  t.equal(id, '10238498')
  t.equal(added.stdout.split(secret!).length, 2, 'the secret is shown once')
  t.equal((await call({ JWT: await tokenFor('--company', id!) })).status, 200, 'minted from the register')
  t.equal((await call({ JWT: await tokenFor('--company', id!, '--secret', secret!) })).status, 200, 'minted by the customer')
  t.equal((await call({ company_id: id!, access_token: secret! })).status, 200)
  t.equal((await call({ JWT: await tokenFor('--company', id!, '--secret', secret!, '--lifetime', '16') })).status, 401)

  t.match(await company(folder, 'allow', id!, '198.51.100.0/24'), { code: 0, stdout: /from 198\.51\.100\.0\/24;/ })
  t.equal((await call({ company_id: id!, access_token: secret! })).status, 403)
  t.match(await company(folder, 'allow', id!, 'none'), { code: 0, stdout: /from anywhere;/ })
  const rotated = await company(folder, 'rotate', id!, '--overlap-hours', '1')
  const next = /^secret {3}([\da-f]{64})$/m.exec(rotated.stdout)![1]!
  for (const live of [secret!, next]) t.equal((await call({ company_id: id!, access_token: live })).status, 200)
  await company(folder, 'rotate', id!, '--overlap-hours', '0')
  for (const old of [secret!, next]) t.equal((await call({ company_id: id!, access_token: old })).status, 401)
  t.match(await company(folder, 'legacy-until', id!, '2031-06-30'), { code: 0, stdout: /legacy headers until 2031-06-30/ })
  t.match(await company(folder, 'legacy-until', id!, 'none'), { code: 0, stdout: /secrets: \w{8}\n$/ })

  const short = await company(folder, 'add', 'Small', '--short-secret')
  const [, shortId, shortSecret] = /^company {2}(\d+)\n[^]*^secret {3}([\da-f]{18})$/m.exec(short.stdout)!
  t.equal((await call({ JWT: await tokenFor('--company', shortId!, '--secret', shortSecret!) })).status, 200)

  const list = await company(folder, 'list')
  t.match(list.stdout, /^100001 +Nordlys Clinics; from anywhere; secrets: \w{8}\n/)
  t.match(list.stdout, /\n10238498 +Fjord "Foods" ø; /)
  const companies = await openCompanies({ folder })
  const secrets = companies.list().flatMap((known) => known.secrets.map(({ key }) => key.export().toString()))
  const stored = readFileSync(join(folder, 'companies.json'), 'utf8')
  for (const spelling of [...secrets, secret!, next].flatMap(spellingsOf)) {
    if (list.stdout.includes(spelling)) t.fail('list shows a secret')
    if (stored.includes(spelling)) t.fail('a secret lies in clear')
  }
  child.kill('SIGUSR2')
  await until(new RegExp(`"tenant": "${id}"`))
})

t.test('the operator onboards accounts and rotates keys while the server runs, and manages users while it does not', async (t) => {
  const folder = tempFolder(t)
  const { child, send } = await startMain(t, folder)
  const added = await account(folder, 'add', ' Øl & Mad ', '--environment', 'sandbox')
  t.match(added, { code: 0, stdout: /^account {6}l-mad\nname {9}Øl & Mad\nenvironment {2}sandbox\ntoken {8}\S+\n\nThe token is shown this once, and lives 30 days\.\n$/ })
  const first = /^token {8}(\S+)$/m.exec(added.stdout)![1]!
  const orders = async (token: string, host = 'api.localhost', method = 'GET'): Promise<number> => {
    return (await send({ host, method, path: '/fulfilment/l-mad/api/v1/orders', headers: { authorization: `Bearer ${token}` }, ...(method === 'POST' && { body: '{}' }) })).status
  }
  t.same([await orders(first), await orders(first, 'sandbox.localhost')], [401, 200])
  const tokenFor = async (...args: readonly string[]): Promise<string> => (await account(folder, 'token', 'l-mad', ...args)).stdout.trim()
  const readOnly = await tokenFor('--scopes', 'orders:read')
  t.same([await orders(readOnly), await orders(readOnly, 'api.localhost', 'POST')], [200, 403])
  t.match(await account(folder, 'add', 'Øl & Mad'), { code: 0, stdout: /^account {6}l-mad-2\n/ }, 'a name that is taken gets a number')
  t.match(await account(folder, 'rotate-keys', '--environment', 'production', '--overlap-hours', '1'), { code: 0, stdout: /^production: new tokens are signed with the key \w{12}\. .* good for 1 hours at most\.\n$/ })
  const next = await tokenFor()
  t.same([await orders(readOnly), await orders(next), await orders(first, 'sandbox.localhost')], [200, 200, 200])
  await account(folder, 'rotate-keys', '--environment', 'production', '--overlap-hours', '0')
  t.same([await orders(readOnly), await orders(next), await orders(await tokenFor()), await orders(first, 'sandbox.localhost')], [401, 401, 200, 200])
  t.match(await account(folder, 'revoke', 'l-mad'), { code: 0, stdout: /^l-mad +Øl & Mad; tokens issued until \S+ are refused\n$/ })
  t.equal(await orders(first, 'sandbox.localhost'), 401)
  t.match((await account(folder, 'list')).stdout, /^nordlys-outfitters +Nordlys Outfitters\nhavn-trading +Havn Trading\nl-mad +Øl & Mad; .*\nl-mad-2 +Øl & Mad\n$/)
  t.match(await user(folder, 'list'), { code: 1, stdout: '', stderr: new RegExp(`the process ${child.pid} has the embedded database of this folder open`) })
  t.equal(await end(child, 'SIGTERM'), 0)

  const made = await user(folder, 'add', 'Boomi Integration', '--permissions', 'inventory:write, tokens:write')
  const [, password = ''] = /^user {9}Boomi Integration\npermissions {2}inventory:write tokens:write\npassword {5}([\da-f]{30})\n/.exec(made.stdout) ?? []
  t.match(await user(folder, 'add', 'Boomi Integration', '--permissions', 'inventory:write'), { code: 1, stdout: '', stderr: /there is, or was, a user "Boomi Integration"/ })
  t.match(await user(folder, 'list'), { code: 0, stdout: /^Boomi Integration +inventory:write tokens:write\nadmin +users:write tokens:write inventory:read inventory:write\n$/ })
  const renewed = /^password {2}([\da-f]{30})$/m.exec((await user(folder, 'password', 'admin')).stdout)![1]!
  const again = await startMain(t, folder)
  const login = async (body: string): Promise<number> => (await again.send({ method: 'POST', path: '/commerce/api/login', body })).status
  t.equal(await login(JSON.stringify({ name: 'Boomi Integration', password })), 200)
  const stored = readFileSync(join(folder, 'admin-login.json'), 'utf8')
  t.same(JSON.parse(stored), { name: 'admin', password: renewed }, 'the file follows the password')
  t.equal(await login(stored), 200)
  t.equal((statSync(join(folder, 'admin-login.json')).mode & 0o777).toString(8), '600')
  t.notOk(again.output().includes(renewed))
  t.match(again.output(), /the login lies in .*admin-login\.json/)
})

t.test('many commands at once lose nothing', async (t) => {
  const folder = tempFolder(t)
  const companies = await openCompanies({ folder })
  await Promise.all(Array.from({ length: 8 }, (_, i) => company(folder, 'add', `Company ${i}`)))
  t.equal(new Set(companies.list().map(({ id }) => id)).size, 12)
  t.equal(new Set(companies.list().map(({ name }) => name)).size, 12)
})

t.test('commands that can\'t be meant end with 1 and say why', async (t) => {
  const folder = tempFolder(t)
  const before = (await openCompanies({ folder })).list()
  const refused: readonly (readonly [args: readonly string[], says: RegExp])[] = [
    [[], /usage/], [['delete', '100001'], /usage/], [['toString'], /usage/], [['add'], /usage/], [['add', ' '], /usage/], [['add', 'A', 'B'], /usage/],
    [['list', '--allow', '10.0.0.1'], /usage/], [['list', 'more'], /usage/], [['add', 'A', '--colour'], /--colour/],
    [['add', 'A', '--allow', ''], /at least one/], [['add', 'A', '--allow', '300.0.0.1'], /allow\[0\]/], [['add', 'A', '--allow', '2001:db8::/32'], /IPv4/],
    [['add', 'A', '--allow', '0.0.0.0/0'], /allowAny/],
    [['rotate'], /usage/], [['rotate', '999'], /there is no company 999/], [['rotate', '100001', '--overlap-hours', '-1'], /./],
    [['allow', '100001'], /usage/], [['allow', '999', 'none'], /there is no company 999/], [['allow', '100001', '10.0.0.0/33'], /allow\[0\]/],
    [['legacy-until', '100001'], /usage/], [['legacy-until', '100001', 'tomorrow'], /must be a date/]
  ]
  await Promise.all(refused.map(async ([args, says]) => {
    t.match(await company(folder, ...args), { code: 1, stdout: '', stderr: says }, args.join(' ') || 'nothing')
  }))
  const [accounts, users]: readonly (readonly (readonly [args: readonly string[], says: RegExp])[])[] = [
    [
      [[], /usage/], [['add', ' '], /usage/], [['add', 'A', '--scopes', 'x'], /usage/], [['add', 'A', '--environment', 'test'], /usage/],
      [['token', 'nobody'], /there is no account nobody\. There are: nordlys-outfitters, havn-trading/], [['token', 'havn-trading', '--scopes', 'admin'], /there is no scope "admin"/],
      [['revoke', 'nobody'], /there is no account nobody/], [['constructor'], /usage/], [['rotate-keys', '--environment', 'test'], /usage/], [['rotate-keys', '--environment', 'sandbox', '--overlap-hours', '-1'], /./]
    ],
    [[['add', 'A'], /usage/], [['add', ' ', '--permissions', 'x'], /usage/], [['password', 'A', '--permissions', 'x'], /usage/], [['toString'], /usage/]]
  ]
  const all = [...accounts!.map((each) => [account, ...each] as const), ...users!.map((each) => [user, ...each] as const)]
  await Promise.all(all.map(async ([of, args, says]) => t.match(await of(folder, ...args), { code: 1, stdout: '', stderr: says }, args.join(' '))))
  t.same((await openAccounts({ folder })).list().map(({ slug }) => slug), ['nordlys-outfitters', 'havn-trading'])
  t.match(await mint(folder, '--company', '999'), { code: 1, stdout: '', stderr: /no company 999\. There are: 100001, / })
  t.match(await mint(folder), { code: 1, stdout: '', stderr: /usage/ })
  t.match(await mint(folder, '--company', '0100001'), { code: 1, stdout: '' })
  t.match(await mint(folder, '--company', '100001', '--lifetime', '0'), { code: 1, stdout: '', stderr: /whole number/ })
  t.match(await mint(folder, '--company', '100001', '--secret', ''), { code: 1, stdout: '' })
  t.same((await openCompanies({ folder })).list().map(({ id, name }) => ({ id, name })), before.map(({ id, name }) => ({ id, name })), 'nothing changed')
})

t.test('a start that can\'t work ends with 1 and names the reason', async (t) => {
  const folder = tempFolder(t)
  await copyDatabase(folder)
  const busy = createServer().listen(0, '127.0.0.1')
  t.teardown(() => busy.close())
  await once(busy, 'listening')
  const starts: readonly (readonly [env: Readonly<Record<string, string>>, says: RegExp])[] = [
    [{ PORT: 'https' }, /^Sallyport demo: PORT must be/],
    [{ PORT: String((busy.address() as AddressInfo).port) }, /EADDRINUSE/],
    [{ LEGACY_BROWNOUTS: '2023-01-01/2023-01-02' }, /brownouts\[0\]\.from/],
    [{ LEGACY_BROWNOUTS: '2023-01-01/2023-01-02', REDIS_URL: redisUrl }, /brownouts\[0\]\.from/],
    [{ PORT: String((busy.address() as AddressInfo).port), REDIS_URL: redisUrl }, /EADDRINUSE/]
  ]
  for (const [env, says] of starts) t.match(await run(process.execPath, [script('main.js')], { DATA_DIR: folder, LOG_LEVEL: 'silent', ...env }), { code: 1, stderr: says })
  writeFileSync(join(folder, 'companies.key'), 'lost')
  t.match(await run(process.execPath, [script('main.js')], { DATA_DIR: folder }), { code: 1, stderr: /companies\.key is missing or damaged/ })
})

t.test('where TLS ends at a proxy, main.js serves plain HTTP to that proxy alone', await needsRedis(), async (t) => {
  const { child, output, call } = await startMain(t, tempFolder(t), { TLS: 'off', TRUST_PROXY: '127.0.0.1', HOST: '0.0.0.0', REDIS_URL: redisUrl })
  t.match(output(), /Sallyport demo: http:\/\/localhost:\d+\n/)
  t.notMatch(output(), /curl|certificate\.pem/)
  t.equal((await call(legacy)).status, 403)
  t.equal((await call({ ...legacy, 'x-forwarded-proto': 'https' })).status, 200)
  t.equal(await end(child, 'SIGTERM'), 0, 'the connection to Redis keeps nothing open')
})

t.test('Redis out of reach is no reason not to start', async (t) => {
  const { call, output } = await startMain(t, tempFolder(t), { REDIS_URL: 'redis://:hunter2hunter2@127.0.0.1:1' })
  t.match(output(), /Redis is out of reach/)
  t.equal((await call(legacy)).status, 200)
  t.notOk(output().includes('hunter2'))
})

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
