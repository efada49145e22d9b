import { scryptSync } from 'node:crypto'
import { memoryStore, type StateStore } from '@sallyport/guard'
import t from 'tap'
import { createLoginThrottle, MAX_FAILURES, WINDOW_SECONDS } from '../src/login-throttle.js'
import { hashPassword, verifyPassword } from '../src/passwords.js'
import { createRingTokens, MAX_LIVE_TOKENS } from '../src/ring-tokens.js'
import { createUsers, permissions, type User } from '../src/users.js'
import { brokenDatabase, brokenStore, spellingsOf, startDemo, type Answer, type Demo } from './fixtures/demo.js'

const password = 'a password of some length'

interface Request { readonly token?: string, readonly method?: string, readonly body?: unknown }

async function call (demo: Demo, resource: string, { token, method, body }: Request = {}): Promise<Answer> {
  return demo.send({
    method: method ?? (body === undefined ? 'GET' : 'POST'),
    path: `/commerce/api/${resource}`,
    headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) })
  })
}

/** At the least cost: a hash of the demo's own takes a fifth of a second each time it is looked at. */
const passwordHash = ['scrypt', 1024, 8, 1, 'AAAA', scryptSync(password, Buffer.alloc(3), 32, { N: 1024, r: 8, p: 1 }).toString('base64url')].join('$')

async function addUser (demo: Demo, name: string, granted: readonly string[] = permissions): Promise<User> {
  const [user] = await demo.database.query<User>('insert into commerce_users (name, password_hash, permissions) values ($1, $2, $3) returning id, name, permissions', [name, passwordHash, granted])
  return user!
}

async function login (demo: Demo, name: string, given = password): Promise<Answer> {
  return call(demo, 'login', { body: { name, password: given } })
}

/** A user with a login. */
async function loggedIn (demo: Demo, name: string, granted?: readonly string[]): Promise<string> {
  await addUser(demo, name, granted)
  return String((await login(demo, name)).json['token'])
}

/** The same store, with something around its calls. */
function around (store: StateStore, call: <T>(name: keyof StateStore, ask: () => Promise<T>) => Promise<T>): StateStore {
  return {
    claim: async (...args) => call('claim', async () => store.claim(...args)),
    release: async (...args) => call('release', async () => store.release(...args)),
    get: async (key) => call('get', async () => store.get(key)),
    set: async (...args) => call('set', async () => store.set(...args)),
    delete: async (key) => call('delete', async () => store.delete(key))
  }
}

const stock = { productId: 'TENT-2', facilityId: 'OSLO', quantity: 40 }

t.test('a login gives a token for what the user may do, for a quarter of an hour', async (t) => {
  const demo = await startDemo(t)
  await addUser(demo, 'admin')
  const answer = await login(demo, 'admin')
  t.match(answer, { status: 200, json: { tokenType: 'Bearer', permissions: [...permissions], expiresAt: new Date(demo.nowMs + 900_000).toISOString() }, headers: { 'cache-control': 'no-store' } })
  const token = String(answer.json['token'])
  t.equal((await call(demo, 'inventory', { token })).status, 200)
  demo.nowMs += 900_000
  t.match(await call(demo, 'inventory', { token }), { status: 401, json: { code: 'ERR_BEARER_JWT_TOKEN_EXPIRED' } })
  const wrong = [await login(demo, 'admin', 'a password of some lengtH'), await login(demo, 'nobody'), await login(demo, 'Admin')]
  for (const refused of wrong) {
    t.match(refused, { status: 401, json: { code: 'ERR_COMMERCE_LOGIN_FAILED' }, headers: { 'www-authenticate': 'Login realm="sallyport-demo"' } })
    t.equal(refused.text, wrong[0]!.text, 'nobody learns who is known')
  }
  for (const body of [{}, { name: 'admin' }, { name: 'admin', password: 1 }, { name: ['admin'], password }, { name: 'admin', password, more: 1 }, { name: 'admin', password: '' }, '{']) {
    t.equal((await call(demo, 'login', { body })).status, 400, JSON.stringify(body))
  }
})

t.test('after five failed logins of a user the right password is 429 too, until the window is over', async (t) => {
  const demo = await startDemo(t)
  await addUser(demo, 'admin')
  await addUser(demo, 'other')
  const tokens = [(await login(demo, 'admin')).json['token'], (await login(demo, 'admin')).json['token']]
  t.notSame(tokens, [undefined, undefined], 'logins that succeed do not count')
  const tries = await Promise.all(Array.from({ length: 12 }, async () => login(demo, 'admin', 'guessed')))
  t.same(tries.map(({ status }) => status).sort(), [...Array.from({ length: MAX_FAILURES.user }, () => 401), ...Array.from({ length: 7 }, () => 429)], 'of twelve at once five are looked at')
  t.match(await login(demo, 'admin'), { status: 429, json: { code: 'ERR_COMMERCE_LOGIN_THROTTLED' }, headers: { 'retry-after': String(WINDOW_SECONDS) } })
  t.equal((await login(demo, 'other')).status, 200, 'other users can log in')
  t.equal((await call(demo, 'inventory', { token: String(tokens[0]) })).status, 200, 'and tokens stay good')
  demo.nowMs += WINDOW_SECONDS * 1000
  t.equal((await login(demo, 'admin')).status, 200)
})

t.test('after twenty failed logins from one address nobody can log in from there, and from elsewhere they can', async (t) => {
  const demo = await startDemo(t, { tls: false, env: { TLS: 'off', TRUST_PROXY: '127.0.0.1' } })
  const names = Array.from({ length: MAX_FAILURES.address }, (_, i) => `user ${i}`)
  for (const name of [...names, 'ann']) await addUser(demo, name)
  const from = async (address: string, name: string, given = password): Promise<Answer> => demo.send({
    method: 'POST', path: '/commerce/api/login', headers: { 'x-forwarded-proto': 'https', 'x-forwarded-for': address }, body: JSON.stringify({ name, password: given })
  })
  const [here, elsewhere] = ['203.0.113.7', '203.0.113.8']
  for (let i = 0; i < 3; i++) t.equal((await from(here, 'ann')).status, 200, 'one that succeeds takes no place')
  for (const name of names) t.equal((await from(here, name, 'guessed')).status, 401, name)
  demo.nowMs += 60_000
  const throttled = { status: 429, json: { code: 'ERR_COMMERCE_LOGIN_THROTTLED' }, headers: { 'retry-after': String(WINDOW_SECONDS - 60) } }
  t.match(await from(here, 'ann'), throttled, 'with the right password')
  t.match(await from(here, 'nobody', 'guessed'), throttled)
  t.match(await from(`${elsewhere}, ${here}`, 'ann'), throttled, 'whatever the client itself forwards')
  t.equal((await from(elsewhere, 'ann')).status, 200)
  t.equal((await from(elsewhere, names[0]!)).status, 200, 'one failure stops no user')
  demo.nowMs += (WINDOW_SECONDS - 60) * 1000
  t.equal((await from(here, 'ann')).status, 200, 'when the window is over')
})

t.test('the throttle counts by user and by address, whatever comes at the same time', async (t) => {
  let now = 1_900_000_000_000
  const throttle = createLoginThrottle(memoryStore({ clock: () => now, maxEntries: 10_000 }), () => now)
  const enter = async (user: string, address: string): Promise<boolean> => 'leave' in await throttle.enter({ user, address })
  const passed = async (attempts: readonly (readonly [user: string, address: string])[]): Promise<number> => {
    return (await Promise.all(attempts.map(async ([user, address]) => enter(user, address)))).filter(Boolean).length
  }
  t.equal(await passed(Array.from({ length: 100 }, (_, i) => ['ann', `192.0.2.${i}`])), MAX_FAILURES.user, 'one user from everywhere')
  t.equal(await passed(Array.from({ length: 100 }, (_, i) => [`user ${i}`, '198.51.100.7'])), MAX_FAILURES.address, 'many users from one address')
  t.equal(await enter('bob', '::ffff:198.51.100.7'), false, 'the same address mapped into IPv6')
  t.equal(await passed(Array.from({ length: 100 }, (_, i) => [`guest ${i}`, `2001:db8::${i}`])), MAX_FAILURES.address, 'one IPv6 network')
  t.equal(await enter('bob', '2001:db8:0:1::1'), true, 'the next network')
  t.equal(await enter('carl', '203.0.113.1'), true)
  now += 60_000
  const refused = await throttle.enter({ user: 'ann', address: '203.0.113.2' })
  t.same(refused, { retryAfterSeconds: WINDOW_SECONDS - 60 })
  t.equal(await passed(Array.from({ length: 20 }, () => ['ann', '203.0.113.3'])), 0)
  t.equal(await enter('dora', '203.0.113.3'), true, 'what is refused by user takes no place of the address')
  const entry = await throttle.enter({ user: 'eve', address: '203.0.113.4' })
  if (!('leave' in entry)) throw new Error('refused')
  await entry.leave()
  t.equal(await passed(Array.from({ length: 10 }, () => ['eve', '203.0.113.5'])), MAX_FAILURES.user, 'a place given back is free')
  await t.rejects(createLoginThrottle(brokenStore(), () => now).enter({ user: 'ann', address: '192.0.2.1' }), /can not be counted/)
})

t.test('passwords are kept as salted hashes, and count the same from every keyboard', async (t) => {
  const [one, two] = await Promise.all([hashPassword('Ångström 1'), hashPassword('Ångström 1')])
  t.match(one, /^scrypt\$32768\$8\$3\$[\w-]{22}\$[\w-]{43}$/)
  t.not(one, two)
  t.same(await Promise.all([verifyPassword('A\u030angstro\u0308m 1', one), verifyPassword('Ångström 2', one), verifyPassword('Ångström 1', undefined)]), [true, false, false])
  for (const damaged of ['', 'md5$1$1$1$a$b', one.slice(0, -5)]) await t.rejects(verifyPassword('x', damaged), /damaged/)
})

t.test('an administrator creates an integration user, who updates the inventory with a named token', async (t) => {
  const demo = await startDemo(t)
  const admin = await loggedIn(demo, 'admin')
  const boomi = { name: 'Boomi Integration', password: 'hunter2 hunter2 hunter2', permissions: ['inventory:write'] }
  const created = await call(demo, 'users', { token: admin, body: boomi })
  t.match(created, { status: 201, json: { id: String, name: boomi.name, permissions: boomi.permissions } })
  t.notOk(created.text.includes('hunter2'))
  t.match(await call(demo, 'users', { token: admin, body: boomi }), { status: 409, json: { code: 'ERR_COMMERCE_USER_EXISTS' } })
  for (const wrong of [{ ...boomi, name: '' }, { ...boomi, password: 'short' }, { ...boomi, permissions: ['root'] }, { ...boomi, permissions: ['inventory:write', 'inventory:write'] }, { ...boomi, id: 'x' }]) {
    t.equal((await call(demo, 'users', { token: admin, body: wrong })).status, 400)
  }
  t.match(await login(demo, boomi.name, boomi.password), { status: 200, json: { permissions: boomi.permissions } })

  const named = { user: boomi.name, purpose: 'nightly stock', validitySeconds: 3600 }
  const issued = await call(demo, 'tokens', { token: admin, body: named })
  t.match(issued, { status: 201, json: { id: String, user: boomi.name, purpose: named.purpose, permissions: boomi.permissions, expiresAt: new Date(demo.nowMs + 3_600_000).toISOString() } })
  const token = String(issued.json['token'])
  t.match(JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString()), { name: boomi.name, scope: 'inventory:write', exp: demo.nowMs / 1000 + 3600 })
  t.match(await call(demo, 'updateInventory', { token, body: stock }), { status: 200, json: { inventory: [stock] } })
  t.same(await demo.database.query('select product_id, facility_id, quantity_on_hand from inventory'), [{ product_id: 'TENT-2', facility_id: 'OSLO', quantity_on_hand: 40 }])

  const list = await call(demo, `tokens?user=${encodeURIComponent(boomi.name)}`, { token: admin })
  t.match(list.json['tokens'], [{ purpose: 'login' }, { id: issued.json['id'], purpose: named.purpose, createdAt: String, expiresAt: String, lastUsedAt: String, revoked: false }])
  for (const spelling of spellingsOf(token)) if (list.text.includes(spelling)) t.fail('the list holds a token')
  const path = `tokens/${String(issued.json['id'])}`
  t.equal((await call(demo, path, { token: admin, method: 'DELETE' })).status, 404, 'not one of the administrator\'s own')
  t.equal((await call(demo, `${path}?user=${encodeURIComponent(boomi.name)}`, { token: admin, method: 'DELETE' })).status, 204)
  t.match(await call(demo, 'updateInventory', { token, body: { ...stock, quantity: 1 } }), { status: 401, json: { code: 'ERR_BEARER_JWT_TOKEN_REVOKED' } })
  t.same((await call(demo, 'inventory', { token: admin })).json, { inventory: [stock] }, 'nothing was changed')
  t.match((await call(demo, `tokens?user=${encodeURIComponent(boomi.name)}`, { token: admin })).json['tokens'], [{}, { revoked: true }])
})

t.test('nobody gets more than they have, and only administrators deal with others', async (t) => {
  const demo = await startDemo(t)
  const clerk = await loggedIn(demo, 'clerk', ['tokens:write', 'inventory:read'])
  const keeper = await loggedIn(demo, 'keeper', ['inventory:write'])
  const half = await loggedIn(demo, 'half', ['users:write'])
  await addUser(demo, 'admin')
  const forbidden = (code: string): object => ({ status: 403, json: { code } })
  const named = { purpose: 'report', validitySeconds: 60 }
  t.match(await call(demo, 'users', { token: clerk, body: { name: 'x', password, permissions: [] } }), forbidden('ERR_BEARER_JWT_SCOPE_INSUFFICIENT'))
  t.match(await call(demo, 'tokens', { token: keeper, body: named }), forbidden('ERR_BEARER_JWT_SCOPE_INSUFFICIENT'))
  t.match(await call(demo, 'updateInventory', { token: clerk, body: stock }), forbidden('ERR_BEARER_JWT_SCOPE_INSUFFICIENT'))
  t.match(await call(demo, 'users', { token: half, body: { name: 'x', password, permissions: ['inventory:write'] } }), forbidden('ERR_COMMERCE_PERMISSION_EXCEEDED'))
  t.match(await call(demo, 'tokens', { token: half, body: { ...named, user: 'admin' } }), forbidden('ERR_COMMERCE_PERMISSION_EXCEEDED'))
  t.match(await call(demo, 'tokens', { token: half, body: { ...named, user: 'nobody' } }), { status: 404, json: { code: 'ERR_COMMERCE_USER_UNKNOWN' } })
  for (const user of ['admin', 'nobody']) {
    t.match(await call(demo, 'tokens', { token: clerk, body: { ...named, user } }), forbidden('ERR_COMMERCE_USER_FOREIGN'))
    t.match(await call(demo, `tokens?user=${user}`, { token: clerk }), forbidden('ERR_COMMERCE_USER_FOREIGN'))
    t.match(await call(demo, `tokens/x?user=${user}`, { token: clerk, method: 'DELETE' }), forbidden('ERR_COMMERCE_USER_FOREIGN'))
  }
  t.match(await call(demo, 'tokens', { token: clerk, body: named }), { status: 201, json: { user: 'clerk', permissions: ['tokens:write', 'inventory:read'] } }, 'one\'s own')
  t.equal((await call(demo, 'tokens?user=clerk', { token: clerk })).status, 200)
  for (const wrong of [{ purpose: '' }, { validitySeconds: 59 }, { validitySeconds: 2_592_001 }, { validitySeconds: '60' }, { purpose: undefined }, { scopes: [] }]) {
    t.equal((await call(demo, 'tokens', { token: clerk, body: { ...named, ...wrong } })).status, 400, JSON.stringify(wrong))
  }
  t.equal((await call(demo, 'tokens?more=1', { token: clerk })).status, 400)
})

t.test('a removed user can do nothing any more, and can\'t come back under another\'s name', async (t) => {
  const demo = await startDemo(t)
  const admin = await loggedIn(demo, 'admin')
  const clerk = await loggedIn(demo, 'clerk', ['tokens:write', 'inventory:read'])
  const named = String((await call(demo, 'tokens', { token: clerk, body: { purpose: 'report', validitySeconds: 86_400 } })).json['token'])
  t.equal((await call(demo, 'users/clerk', { token: clerk, method: 'DELETE' })).status, 403)
  t.match(await call(demo, 'users/admin', { token: admin, method: 'DELETE' }), { status: 409, json: { code: 'ERR_COMMERCE_USER_SELF' } })
  t.equal((await call(demo, 'users/nobody', { token: admin, method: 'DELETE' })).status, 404)
  t.equal((await call(demo, 'inventory', { token: named })).status, 200)
  t.equal((await call(demo, 'users/clerk', { token: admin, method: 'DELETE' })).status, 204)
  for (const token of [clerk, named]) t.match(await call(demo, 'inventory', { token }), { status: 401, json: { code: 'ERR_BEARER_JWT_TOKEN_REVOKED' } })
  t.equal((await login(demo, 'clerk')).status, 401)
  t.equal((await call(demo, 'tokens?user=clerk', { token: admin })).status, 404)
  t.equal((await call(demo, 'users/clerk', { token: admin, method: 'DELETE' })).status, 404)
  t.equal((await call(demo, 'users', { token: admin, body: { name: 'clerk', password, permissions: [] } })).status, 409)
  const users = createUsers(demo.database)
  t.same((await users.list()).map(({ name }) => name), ['admin'])
  t.equal(await users.setPassword({ name: 'clerk', password }), false)
})

t.test('a token that is issued while its user is removed is good for nothing', async (t) => {
  const demo: Demo = await startDemo(t, {
    store: around(memoryStore({ maxEntries: 1_000 }), async (name, ask) => {
      const answer = await ask()
      if (name === 'set') await createUsers(demo.database).disable(id)
      return answer
    })
  })
  const { id } = await addUser(demo, 'clerk')
  t.match(await login(demo, 'clerk'), { status: 403, json: { code: 'ERR_COMMERCE_USER_GONE' } })
})

t.test('a user has no more tokens than can be listed and ended', async (t) => {
  const store = memoryStore({ maxEntries: 10_000 })
  const demo = await startDemo(t, { store })
  demo.nowMs += 1000
  const { id } = await addUser(demo, 'clerk')
  const tokens = createRingTokens({ ring: () => demo.keyRings.of('commerce'), issuer: 'urn:sallyport:commerce', audience: 'urn:sallyport:commerce', store, clock: () => demo.nowMs })
  t.teardown(tokens.close)
  for (let i = 1; i < MAX_LIVE_TOKENS; i++) await tokens.issue({ subject: id })
  t.equal((await login(demo, 'clerk')).status, 200)
  t.match(await login(demo, 'clerk'), { status: 409, json: { code: 'ERR_COMMERCE_TOKENS_FULL' } })
})

t.test('updateInventory takes one or many, all or none, by a live token alone', async (t) => {
  const demo = await startDemo(t)
  const token = await loggedIn(demo, 'keeper', ['inventory:write'])
  const update = async (body: unknown, by: string | undefined = token): Promise<Answer> => call(demo, 'updateInventory', { body, ...(by !== undefined && { token: by }) })
  const many = [stock, { ...stock, facilityId: 'BERGEN', quantity: 0 }, { ...stock, productId: 'LAMP', quantity: 7 }]
  t.match(await update(many), { status: 200 })
  t.match(await update({ ...stock, quantity: 39 }), { status: 200, json: { inventory: [{ ...stock, quantity: 39 }] } })
  const kept = [many[2]!, many[1]!, { ...stock, quantity: 39 }]
  const wrong: readonly unknown[] = [
    [], {}, 'null', { ...stock, quantity: -1 }, { ...stock, quantity: 1.5 }, { ...stock, quantity: '1' }, { ...stock, quantity: 2_000_000_000 }, { ...stock, productId: '' }, { ...stock, more: 1 },
    [{ ...stock, quantity: 1 }, { ...stock, quantity: -1 }], [{ ...stock, quantity: 1 }, { ...stock, quantity: 2 }], Array.from({ length: 501 }, (_, i) => ({ ...stock, productId: `P${i}` }))
  ]
  for (const body of wrong) t.equal((await update(body)).status, 400, JSON.stringify(body).slice(0, 60))
  const anonymous = await call(demo, 'updateInventory', { body: stock })
  t.match(anonymous, { status: 401, json: { code: 'ERR_BEARER_JWT_TOKEN_MISSING' }, headers: { 'www-authenticate': 'Bearer realm="sallyport-demo"' } })
  t.equal((await update(stock, `${token.slice(0, -4)}AAAA`)).status, 401)
  t.same((await call(demo, 'inventory', { token })).json, { inventory: kept })
  await Promise.all(Array.from({ length: 20 }, async (_, i) => update(i % 2 === 0 ? many : [...many].reverse())))
  t.same((await call(demo, 'inventory', { token })).json, { inventory: [many[2], many[1], many[0]] })
})

t.test('without the store or the database it is 503, never 200 and never 401', async (t) => {
  const unavailable = { status: 503, headers: { 'retry-after': '1' } }
  const store = memoryStore({ maxEntries: 1_000 })
  let isDown = false
  const demo = await startDemo(t, { store: around(store, async (_name, ask) => isDown ? Promise.reject(new Error('down')) : ask()) })
  const token = await loggedIn(demo, 'admin')
  t.equal((await call(demo, 'inventory', { token })).status, 200)
  isDown = true
  demo.nowMs += 3_000
  for (const [resource, body] of [['inventory', undefined], ['tokens', undefined], ['updateInventory', stock], ['tokens', { purpose: 'x', validitySeconds: 60 }]] as const) t.match(await call(demo, resource, { token, body }), unavailable, resource)
  t.match(await login(demo, 'admin'), unavailable)
  isDown = false
  t.equal((await call(demo, 'inventory', { token })).status, 200, 'and it is over when the store is back')
  t.equal((await login(demo, 'admin')).status, 200)

  const noDatabase = await startDemo(t, { database: brokenDatabase(), folder: demo.folder, store })
  for (const [resource, body] of [['inventory', undefined], ['updateInventory', stock], ['login', { name: 'admin', password }]] as const) t.match(await call(noDatabase, resource, { token, body }), unavailable, resource)
  for (let i = 0; i < 6; i++) await login(noDatabase, 'admin')
  t.equal((await login(noDatabase, 'admin')).status, 503, 'what the database keeps from being looked at counts as no failure')
})
