import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { isOptionsError } from '@sallyport/guard'
import { fileListStore, memoryListStore, type ListEntry, type ListStore } from '../src/index.js'
import { changeOf } from './fixtures/list-changes.js'

const folder = await mkdtemp(join(tmpdir(), 'sallyport-lists-'))
t.teardown(() => rm(folder, { recursive: true }))
let files = 0

function newPath (): string {
  return join(folder, `lists-${++files}.json`)
}

async function fileWith (text: string): Promise<string> {
  const path = newPath()
  await writeFile(path, text)
  return path
}

const stores: Record<string, (lists?: Readonly<Record<string, readonly ListEntry[]>>) => Promise<ListStore>> = {
  memoryListStore: async (lists = {}) => memoryListStore({ lists }),
  fileListStore: async (lists = {}) => fileListStore({ path: await fileWith(JSON.stringify({ lists })) })
}

for (const [kind, storeWith] of Object.entries(stores)) {
  t.test(kind, async (t) => {
    t.test('gives lists with the versions that it names', async (t) => {
      const entries = ['10.0.0.0/8', { entry: '192.0.2.1', note: 'office', expiresAt: '2027-01-01T00:00:00Z' }]
      const store = await storeWith({ office: entries, empty: [] })
      const versions = await store.versions()
      t.same([...versions.keys()].sort(), ['empty', 'office'])
      t.same(await store.read('office'), { version: versions.get('office'), entries })
      t.same(await store.read('empty'), { version: versions.get('empty'), entries: [] })
      t.equal(await store.read('toString'), undefined)
    })

    t.test('makes, replaces and removes a list only at the version that is expected', async (t) => {
      const store = await storeWith()
      t.same(await store.replace({ name: 'a', expected: 'x', entries: ['10.0.0.1'], change: changeOf('a') }), { replaced: false })
      const made = await store.replace({ name: 'a', expected: undefined, entries: ['10.0.0.1'], change: changeOf('a') })
      t.ok(made.replaced)
      t.same(await store.replace({ name: 'a', expected: undefined, entries: [], change: changeOf('a') }), { replaced: false })
      const { version } = made as { version: string }
      t.same(await store.read('a'), { version, entries: ['10.0.0.1'] })
      t.match(version, /^[\x21\x23-\x7e]+$/, 'it can stand in an ETag')
      const next = await store.replace({ name: 'a', expected: version, entries: ['10.0.0.2'], change: changeOf('a') })
      t.not((next as { version: string }).version, version)
      t.same(await store.replace({ name: 'a', expected: version, entries: undefined, change: changeOf('a') }), { replaced: false })
      t.ok((await store.replace({ name: 'a', expected: (next as { version: string }).version, entries: undefined, change: changeOf('a') })).replaced)
      t.equal(await store.read('a'), undefined)
      t.equal((await store.versions()).size, 0)
    })

    t.test('lets one of many change a version', async (t) => {
      const store = await storeWith({ a: [] })
      const { version } = (await store.read('a'))!
      const results = await Promise.all(Array.from({ length: 20 }, (_, i) => store.replace({ name: 'a', expected: version, entries: [`10.0.0.${i}`], change: changeOf('a') })))
      t.equal(results.filter(({ replaced }) => replaced).length, 1)
      t.equal((await store.history('a', 100)).length, 1)
    })

    t.test('keeps what it was given apart from the caller\'s objects', async (t) => {
      const store = await storeWith()
      const entries = ['10.0.0.1', { entry: '10.0.0.2', note: 'mine' }]
      await store.replace({ name: 'a', expected: undefined, entries, change: changeOf('a') })
      Object.assign(entries[1]!, { entry: '0.0.0.0/1' })
      entries.push('128.0.0.0/1')
      const kept = (await store.read('a'))!.entries
      t.same(kept, ['10.0.0.1', { entry: '10.0.0.2', note: 'mine' }])
      t.throws(() => { (kept as ListEntry[]).push('::1') })
      t.throws(() => { (kept[1] as { note: string }).note = 'yours' })
    })

    t.test('remembers the changes of each list, newest first, also of a removed one', async (t) => {
      const store = await storeWith({ a: [] })
      const steps: [string, readonly ListEntry[] | undefined][] = [['a', ['10.0.0.1']], ['b', ['10.0.0.2']], ['a', ['10.0.0.3']], ['a', undefined]]
      for (const [i, [name, entries]] of steps.entries()) {
        const expected = (await store.read(name))?.version
        t.ok((await store.replace({ name, expected, entries, change: changeOf(name, `2026-11-2${i}T00:00:00.000Z`) })).replaced)
      }
      t.same((await store.history('a', 100)).map(({ at }) => at.slice(8, 10)), ['23', '22', '20'])
      t.same((await store.history('a', 2)).map(({ at }) => at.slice(8, 10)), ['23', '22'])
      t.same(await store.history('none', 100), [])
    })
  })
}

t.test('both stores forget the oldest changes beyond maxChanges', async (t) => {
  for (const store of [memoryListStore({ maxChanges: 3 }), fileListStore({ path: newPath(), create: true, maxChanges: 3 })]) {
    for (let i = 0; i < 5; i++) await store.replace({ name: `list-${i}`, expected: undefined, entries: [], change: changeOf(`list-${i}`) })
    const kept = await Promise.all([0, 1, 2, 3, 4].map(async (i) => (await store.history(`list-${i}`, 10)).length))
    t.same(kept, [0, 0, 1, 1, 1])
  }
})

t.test('both stores refuse options that can not be meant', async (t) => {
  const wrong: (() => unknown)[] = [
    () => memoryListStore({ list: {} } as never), () => memoryListStore({ lists: [] as never }), () => memoryListStore({ lists: { a: '10.0.0.1' as never } }),
    () => memoryListStore({ maxChanges: 0 }), () => fileListStore({} as never), () => fileListStore({ path: '' }), () => fileListStore({ path: 'x', create: 'yes' as never })
  ]
  for (const make of wrong) {
    try {
      make()
      t.fail(String(make))
    } catch (error) {
      t.ok(isOptionsError(error), String(make))
    }
  }
})

t.test('fileListStore', async (t) => {
  t.test('sees what people write into the file, with another version', async (t) => {
    const path = await fileWith('{ "lists": { "a": ["10.0.0.1"], "b": [] } }')
    const store = fileListStore({ path })
    const before = await store.versions()
    await writeFile(path, '{ "lists": { "a": ["10.0.0.2"], "b": [] } }')
    const after = await store.versions()
    t.not(after.get('a'), before.get('a'))
    t.equal(after.get('b'), before.get('b'), 'a list that was not touched has not changed')
    t.same((await store.read('a'))!.entries, ['10.0.0.2'])
  })

  t.test('rejects while the file is broken, missing or too large, and reads it when it is whole again', async (t) => {
    const good = '{ "lists": { "a": ["10.0.0.1"] }, "changes": [] }'
    const path = await fileWith(good)
    const store = fileListStore({ path, create: true })
    await store.versions()
    const broken = ['', '{', '[]', 'null', '"lists"', '{}', '{ "lists": [] }', '{ "lists": null }', '{ "lists": {}, "changes": {} }', '{ "lists": { "a": ["10.0.0.1"] }', good + ' '.repeat(16 * 1024 * 1024)]
    for (const text of broken) {
      await writeFile(path, text)
      await t.rejects(store.versions(), text.slice(0, 50))
      await t.rejects(store.read('a'))
      await t.rejects(store.history('a', 1))
      await t.rejects(store.replace({ name: 'a', expected: undefined, entries: [], change: changeOf('a') }))
    }
    await rename(path, `${path}.away`)
    await t.rejects(store.versions(), { code: 'ENOENT' }, 'a file that vanished is no store without lists')
    await writeFile(path, good)
    t.same((await store.read('a'))!.entries, ['10.0.0.1'])
  })

  t.test('makes the file only where that was asked for', async (t) => {
    await t.rejects(fileListStore({ path: newPath() }).versions(), { code: 'ENOENT' })
    const path = newPath()
    t.equal((await fileListStore({ path, create: true }).versions()).size, 0)
    t.same(JSON.parse(await readFile(path, 'utf8')), { lists: {}, changes: [] })
    await t.rejects(fileListStore({ path: join(path, 'below-a-file'), create: true }).versions(), { code: 'ENOTDIR' })
  })

  t.test('leaves nothing beside the file', async (t) => {
    const own = await mkdtemp(join(folder, 'own-'))
    const store = fileListStore({ path: join(own, 'lists.json'), create: true })
    await store.replace({ name: 'a', expected: undefined, entries: ['10.0.0.1'], change: changeOf('a') })
    await t.rejects(store.replace({ name: 'b', expected: undefined, entries: ['x'.repeat(17 * 1024 * 1024)], change: changeOf('b') }), /larger than/)
    t.same(await readdir(own), ['lists.json'])
    t.same((await store.read('a'))!.entries, ['10.0.0.1'])
  })

  t.test('keeps a list whose name is special to JavaScript', async (t) => {
    const store = fileListStore({ path: newPath(), create: true })
    await store.replace({ name: '__proto__', expected: undefined, entries: ['10.0.0.1'], change: changeOf('__proto__') })
    t.same([...(await store.versions()).keys()], ['__proto__'])
    t.same((await store.read('__proto__'))!.entries, ['10.0.0.1'])
  })

  t.test('refuses changes while another process holds the lock, and goes on reading', async (t) => {
    const path = await fileWith('{ "lists": { "a": [] } }')
    const store = fileListStore({ path })
    const { version } = (await store.read('a'))!
    await writeFile(`${path}.lock`, '')
    await t.rejects(store.replace({ name: 'a', expected: version, entries: ['10.0.0.1'], change: changeOf('a') }), /lists-\d+\.json\.lock is there; remove it/)
    t.same((await store.read('a'))!.entries, [])
    await rm(`${path}.lock`)
    t.ok((await store.replace({ name: 'a', expected: version, entries: ['10.0.0.1'], change: changeOf('a') })).replaced)
  })

  t.test('loses no change when several processes add to one list', async (t) => {
    const path = await fileWith('{ "lists": { "a": [] } }')
    const workers = [1, 2, 3].map((id) => fork(join(import.meta.dirname, 'fixtures', 'add-to-list.mjs'), [path, String(id), '10'], { execArgv: [] }))
    const codes = await Promise.all(workers.map(async (worker) => (await once(worker, 'exit'))[0] as number))
    t.same(codes, [0, 0, 0])
    const store = fileListStore({ path })
    t.equal(new Set((await store.read('a'))!.entries).size, 30)
    t.equal((await store.history('a', 100)).length, 30)
  })
})
