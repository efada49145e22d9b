import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { openAccounts } from '../src/accounts.js'
import { documentedExample, openCompanies } from '../src/companies.js'
import { sign, spellingsOf, tempFolder } from './fixtures/demo.js'
import { command, end, startMain } from './fixtures/processes.js'

const company = command('company')
const mint = command('mint')
const account = command('account')
const user = command('user')
const merchant = command('merchant')

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
  t.match(await account(folder, 'rotate-keys', '--environment', 'production', '--overlap-hours', '1'), { code: 0, stdout: /^production: new tokens are signed with the key \w{12} and sealed with \w{12}, [^.]*\. .* good for 1 hours at most\.\n$/ })
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

t.test('commands explain themselves', async (t) => {
  const folder = tempFolder(t)
  const commands = { account, company, merchant, mint, user }
  await Promise.all(Object.entries(commands).map(async ([name, run]) => {
    const usage = new RegExp(`^usage: npm run (--silent )?${name} --workspace apps/demo -- `)
    for (const args of [['--help'], ['add', '-h']]) t.match(await run(folder, ...args), { code: 0, stdout: usage, stderr: '' }, `${name} ${args.join(' ')}`)
    t.match(await run(folder, '--colour'), { code: 1, stdout: '', stderr: /--colour[^]*\nusage: / }, `${name} --colour`)
  }))
  t.same(readdirSync(folder), [], 'and do nothing else')
})

t.test('commands that can\'t be meant end with 1 and say why', async (t) => {
  const folder = tempFolder(t)
  const before = (await openCompanies({ folder })).list()
  const refused: readonly (readonly [args: readonly string[], says: RegExp])[] = [
    [[], /usage/], [['delete', '100001'], /usage/], [['toString'], /usage/], [['add'], /usage/], [['add', ' '], /usage/], [['add', 'A', 'B'], /usage/],
    [['list', '--allow', '10.0.0.1'], /usage/], [['list', 'more'], /usage/], [['add', 'A', '--colour'], /--colour/],
    [['add', 'A', '--allow', ''], /at least one/], [['add', 'A', '--allow', '300.0.0.1'], /allow\[0\]/], [['add', 'A', '--allow', '2001:db8::/32'], /IPv4/],
    [['add', 'A', '--allow', '0.0.0.0/0'], /allowAny/],
    [['rotate'], /usage/], [['rotate', '999'], /there is no company 999/], [['rotate', '100001', '--overlap-hours', '-1'], /./], [['rotate', '100001', '--overlap-hours', 'x'], /--overlap-hours must be a whole number/],
    [['allow', '100001'], /usage/], [['allow', '999', 'none'], /there is no company 999/], [['allow', '100001', '10.0.0.0/33'], /allow\[0\]/],
    [['legacy-until', '100001'], /usage/], [['legacy-until', '100001', 'tomorrow'], /must be a date/]
  ]
  await Promise.all(refused.map(async ([args, says]) => {
    t.match(await company(folder, ...args), { code: 1, stdout: '', stderr: says }, args.join(' ') || 'nothing')
  }))
  const [accounts, users]: readonly (readonly (readonly [args: readonly string[], says: RegExp])[])[] = [
    [
      [[], /usage/], [['add', ' '], /name must not be empty/], [['add', 'A', '--scopes', 'x'], /usage/], [['add', 'A', '--environment', 'test'], /--environment must be one of production, sandbox\n/],
      [['token', 'nobody'], /there is no account nobody\. There are: nordlys-outfitters, havn-trading/], [['token', 'havn-trading', '--scopes', 'admin'], /there is no scope "admin"/],
      [['revoke', 'nobody'], /there is no account nobody/], [['constructor'], /usage/], [['rotate-keys', '--environment', 'test'], /--environment must be one of production, sandbox, commerce, payments\n/],
      [['rotate-keys', '--environment', 'sandbox', '--overlap-hours', '0.5'], /--overlap-hours must be a whole number of hours, 0 to 99999\n/]
    ],
    [[['add', 'A'], /add needs --permissions/], [['add', ' ', '--permissions', 'x'], /usage/], [['password', 'A', '--permissions', 'x'], /usage/], [['toString'], /usage/]]
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
