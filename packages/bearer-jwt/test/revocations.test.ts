import { setTimeout as sleep } from 'node:timers/promises'
import { memoryStore, type StateStore } from '@sallyport/guard'
import t, { type Test } from 'tap'
import { Revocations, type Revocation, type RevocableToken } from '../src/revocations.js'
import { Clock, WatchedStore } from './fixtures/token-service.js'
import { NOW } from './fixtures/tokens.js'

const DAY = 86_400

interface Setup { readonly store?: StateStore, readonly clock?: Clock, readonly retentionDays?: number, readonly maxStalenessSeconds?: number }

async function open (t: Test, { store = new WatchedStore(), clock = new Clock(), retentionDays = 30, maxStalenessSeconds = 1 }: Setup = {}): Promise<Revocations> {
  const revocations = new Revocations({ store, clock: clock.now, retentionSeconds: retentionDays * DAY, maxStalenessSeconds, storeTimeoutMs: 100 })
  t.teardown(() => { revocations.close() })
  await revocations.open()
  return revocations
}

function token (given: Partial<RevocableToken>): RevocableToken {
  return { id: undefined, family: undefined, tenant: undefined, issuedAt: NOW, ...given }
}

t.test('refuses a token by its id, its family or its tenant, and no other', async (t) => {
  const revocations = await open(t)
  for (const revocation of [{ id: 'a' }, { family: 'f' }, { tenant: '1' }]) await revocations.revoke(revocation)
  const asked: [Partial<RevocableToken>, boolean][] = [
    [{ id: 'a' }, true], [{ family: 'f' }, true], [{ id: 'b', family: 'a' }, true], [{ tenant: '1' }, true], [{ tenant: '1', issuedAt: undefined }, true],
    [{ tenant: '1', issuedAt: NOW + 1 }, false], [{ id: '1', family: '1' }, false], [{ id: 'b', family: 'g', tenant: 'a' }, false], [{}, false]
  ]
  for (const [given, revoked] of asked) t.equal(revocations.isRevoked(token(given)), revoked, JSON.stringify(given))
})

t.test('throws for what names nothing, or more than one thing', async (t) => {
  const store = new WatchedStore()
  const revocations = await open(t, { store })
  const wrong: unknown[] = [{}, null, undefined, 'a', [], { id: '' }, { id: undefined }, { id: 'a', family: 'b' }, { tenant: 100001 }, { jti: 'a' }, { id: 'x'.repeat(1_025) }, { __proto__: { id: 'a' } }]
  for (const given of wrong) await t.rejects(revocations.revoke(given as Revocation), TypeError)
  t.equal(store.entries.size, 0)
})

t.test('resolves only when the store has it, and then survives a restart', async (t) => {
  const store = new WatchedStore()
  const revocations = await open(t, { store })
  let settled = false
  let goOn = (): void => {}
  store.before = (method) => method === 'claim' ? new Promise<void>((resolve) => { goOn = resolve }) : undefined
  const revoked = revocations.revoke({ id: 'a' }).then(() => { settled = true })
  await sleep(20)
  t.equal(settled, false)
  goOn()
  await revoked
  store.before = () => {}
  t.equal((await open(t, { store })).isRevoked(token({ id: 'a' })), true)
  t.equal(store.entries.size, 1)
  await revocations.revoke({ id: 'a' })
  t.equal(store.entries.size, 1, 'writes nothing twice')
})

t.test('rejects where the store is down or hangs, and revokes nothing', async (t) => {
  for (const fault of ['down', 'hangs'] as const) {
    const store = new WatchedStore()
    const clock = new Clock()
    const revocations = await open(t, { store, clock })
    store.fault = fault
    await t.rejects(revocations.revoke({ id: 'a' }))
    t.equal(revocations.isRevoked(token({ id: 'a' })), false)
    await t.rejects(open(t, { store }), Error, 'does not open either')
  }
})

t.test('loses no entry when many writers write at once', async (t) => {
  const store = new WatchedStore()
  store.before = async () => sleep(Math.random() * 3)
  const writers = await Promise.all(Array.from({ length: 4 }, () => open(t, { store })))
  const ids = Array.from({ length: 100 }, (_, i) => `token-${i}`)
  await Promise.all(ids.map((id, i) => writers[i % 4]!.revoke({ id })))
  const reader = await open(t, { store })
  t.ok(ids.every((id) => reader.isRevoked(token({ id })) === true), 'a reader that starts later finds all')
  t.equal(store.entries.size, 100)
  for (const writer of writers) {
    await writer.revoke({ id: 'last' })
    t.ok(ids.every((id) => writer.isRevoked(token({ id })) === true))
  }
})

t.test('reads a long log at start without a round trip for each entry', async (t) => {
  const store = new WatchedStore()
  const writer = await open(t, { store })
  for (let i = 0; i < 1_000; i++) await writer.revoke({ id: `token-${i}` })
  store.before = async () => sleep(5)
  const start = performance.now()
  const reader = await open(t, { store })
  t.ok(performance.now() - start < 1_000, 'far less than 1,000 times 5 ms')
  t.ok([0, 1, 62, 63, 64, 127, 500, 999].every((i) => reader.isRevoked(token({ id: `token-${i}` })) === true))
})

t.test('hears of other processes within the staleness, and asks for it where its snapshot is older', async (t) => {
  const store = new WatchedStore()
  const clock = new Clock()
  const [here, there] = [await open(t, { store, clock }), await open(t, { store, clock })]
  await there.revoke({ id: 'a' })
  t.equal(here.isRevoked(token({ id: 'a' })), false, 'what is known is fresh enough')
  clock.pass(1)
  t.equal(here.isRevoked(token({ id: 'a' })), false, 'to the last millisecond')
  clock.ms++
  store.calls.length = 0
  const answers = [1, 2, 3].map(() => here.isRevoked(token({ id: 'a' })))
  t.ok(answers.every((answer) => answer instanceof Promise))
  t.same(await Promise.all(answers.map(async (answer) => answer)), [true, true, true])
  t.equal(store.calls.length, 5, 'one reading for all of them: the entry, two that may follow it, and two days that are empty')
  t.equal(here.isRevoked(token({ id: 'b' })), false, 'at once again')
})

t.test('follows the store by itself until it is closed', async (t) => {
  const store = new WatchedStore()
  const clock = { now: Date.now } as Clock
  const [here, there] = [await open(t, { store, clock }), await open(t, { store, clock })]
  await there.revoke({ id: 'a' })
  await sleep(800)
  t.equal(here.isRevoked(token({ id: 'a', issuedAt: Math.floor(Date.now() / 1000) })), true)
  here.close()
  there.close()
  await sleep(50)
  store.calls.length = 0
  await sleep(700)
  t.same(store.calls, [])
})

t.test('can\'t tell while the store is down or hangs and the snapshot is too old, except what it knows to be revoked', async (t) => {
  const store = new WatchedStore()
  const clock = new Clock()
  const revocations = await open(t, { store, clock })
  await revocations.revoke({ id: 'known' })
  clock.pass(2)
  for (const fault of ['down', 'hangs'] as const) {
    store.fault = fault
    const start = performance.now()
    await t.rejects(Promise.resolve(revocations.isRevoked(token({ id: 'a' }))))
    t.ok(performance.now() - start < 500)
    t.equal(revocations.isRevoked(token({ id: 'known' })), true)
  }
  store.fault = 'none'
  t.equal(await revocations.isRevoked(token({ id: 'a' })), false, 'and recovers')
})

t.test('can\'t tell where reading takes longer than the staleness', async (t) => {
  const store = new WatchedStore()
  const clock = new Clock()
  const revocations = await open(t, { store, clock })
  clock.pass(2)
  store.before = () => { clock.pass(0.5) }
  await t.rejects(Promise.resolve(revocations.isRevoked(token({ id: 'a' }))), /fast enough/)
})

t.test('reads again where a reading under way began too long ago', async (t) => {
  const store = new WatchedStore()
  const clock = new Clock()
  const revocations = await open(t, { store, clock })
  clock.pass(2)
  store.before = async () => sleep(20)
  const first = revocations.isRevoked(token({ id: 'a' }))
  clock.pass(2)
  t.same(await Promise.all([first, revocations.isRevoked(token({ id: 'a' }))]), [false, false])
})

t.test('takes no snapshot for fresh when the clock goes back', async (t) => {
  const store = new WatchedStore()
  const clock = new Clock()
  const [here, there] = [await open(t, { store, clock }), await open(t, { store, clock })]
  clock.pass(-3_600)
  await there.revoke({ id: 'a' })
  t.equal(await here.isRevoked(token({ id: 'a', issuedAt: NOW - 4_000 })), true)
})

t.test('keeps what it knew when the clock leaps ahead and comes back', async (t) => {
  const store = new WatchedStore()
  const clock = new Clock()
  const [here, there] = [await open(t, { store, clock }), await open(t, { store, clock })]
  await here.revoke({ id: 'a' })
  clock.pass(5 * DAY)
  await here.revoke({ id: 'b' })
  clock.pass(40 * DAY)
  t.equal(await here.isRevoked(token({ id: 'c' })), false)
  clock.pass(-40 * DAY)
  await there.revoke({ id: 'd' })
  for (const id of ['a', 'b', 'd']) t.equal(await here.isRevoked(token({ id })), true, id)
})

t.test('hears of what was revoked on days that it slept through', async (t) => {
  const store = new WatchedStore()
  const [asleep, awake] = [new Clock(), new Clock()]
  const here = await open(t, { store, clock: asleep })
  const there = await open(t, { store, clock: awake })
  for (let day = 0; day < 6; day++) {
    await there.revoke({ id: `day-${day}` })
    awake.pass(DAY)
  }
  asleep.ms = awake.ms
  for (let day = 0; day < 6; day++) t.equal(await here.isRevoked(token({ id: `day-${day}` })), true, `day ${day}`)
})

t.test('hears of writers whose clocks are on the day before or after', async (t) => {
  const store = new WatchedStore()
  const clock = new Clock()
  const here = await open(t, { store, clock })
  for (const [name, days] of [['behind', -1], ['ahead', 1]] as const) {
    const skewed = new Clock()
    skewed.pass(days * DAY)
    await (await open(t, { store, clock: skewed })).revoke({ id: name })
    clock.pass(2)
    t.equal(await here.isRevoked(token({ id: name })), true, name)
  }
})

t.test('keeps a revocation for as long as a token may live, across the change of days', async (t) => {
  const clock = new Clock()
  const store = memoryStore({ clock: clock.now })
  clock.pass(DAY - 1 - (NOW % DAY))
  const here = await open(t, { store, clock, retentionDays: 2 })
  await here.revoke({ id: 'a' })
  const issuedAt = clock.ms / 1000
  for (let hours = 0; hours < 48; hours += 6) {
    clock.pass(6 * 3_600)
    t.equal(await here.isRevoked(token({ id: 'a', issuedAt })), true, 'who knew it')
    t.equal((await open(t, { store, clock, retentionDays: 2 })).isRevoked(token({ id: 'a', issuedAt })), true, 'who starts now')
  }
  clock.pass(4 * DAY)
  await here.isRevoked(token({ id: 'b' }))
  t.equal(await here.isRevoked(token({ id: 'a', issuedAt })), false, 'and forgets it some time')
  await store.claim('any', 1)
  await store.claim('other', 1)
  t.ok(store.size <= 2, 'as the store does')
})

t.test('begins a log anew that the store has lost, where all can read it', async (t) => {
  const store = new WatchedStore()
  const clock = new Clock()
  const [here, there] = [await open(t, { store, clock }), await open(t, { store, clock })]
  for (const id of ['a', 'b', 'c']) await here.revoke({ id })
  clock.pass(2)
  await there.isRevoked(token({ id: 'x' }))
  store.entries.clear()
  await there.revoke({ id: 'd' })
  clock.pass(2)
  for (const id of ['a', 'b', 'c', 'd']) t.equal(await here.isRevoked(token({ id })), true, id)
  t.equal((await open(t, { store, clock })).isRevoked(token({ id: 'd' })), true, 'no hole stands before it')
})

t.test('can\'t tell where an entry can\'t be read', async (t) => {
  for (const text of ['', '{', 'null', '[]', '{"kind":"jti","value":"a","at":1}', '{"kind":"id","value":1,"at":1}', '{"kind":"id","value":"a"}', '{"kind":"toString","value":"a","at":1}']) {
    const store = new WatchedStore()
    const clock = new Clock()
    const revocations = await open(t, { store, clock })
    await revocations.revoke({ id: 'a' })
    const [key] = store.entries.keys()
    store.entries.set(key!, text)
    clock.pass(2)
    await t.rejects(Promise.resolve(revocations.isRevoked(token({ id: 'b' }))), /no revocation under revoked:\d+:0/)
    t.equal(revocations.isRevoked(token({ id: 'a' })), true)
    await t.rejects(open(t, { store, clock }))
  }
})

t.test('refuses what was issued before a store that forgets was made', async (t) => {
  const clock = new Clock()
  const revocations = await open(t, { store: memoryStore({ clock: clock.now }), clock })
  t.equal(revocations.isRevoked(token({ id: 'a', issuedAt: NOW - 1 })), true)
  t.equal(revocations.isRevoked(token({ id: 'a', issuedAt: undefined })), true)
  t.equal(revocations.isRevoked(token({ id: 'a' })), false)
})
