import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { connect } from 'node:tls'
import t from 'tap'
import { documentedExample } from '../src/companies.js'
import { copyDatabase, departmentsPath, needsCurl, needsRedis, redisUrl, tempFolder } from './fixtures/demo.js'
import { end, run, script, startMain } from './fixtures/processes.js'

const legacy = { company_id: documentedExample.companyId, access_token: documentedExample.accessToken }

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
    /^\{"inventory":\[\{"productId":"TENT-2","facilityId":"OSLO","quantity":40/,
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
