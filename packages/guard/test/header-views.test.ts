import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import t from 'tap'
import { addHeader, removeHeader } from '../src/header-views.js'

const lines = ['Host', 'a', 'X-Key', 'one', 'Accept', '*/*', 'x-key', 'two']

/** A message as Node's parser leaves it. */
function message (given: readonly string[] = lines): IncomingMessage {
  const raw = new IncomingMessage(new Socket())
  ;(raw as unknown as Raw)._addHeaderLines([...given], given.length)
  return raw
}

interface Raw { readonly _addHeaderLines: (lines: string[], count: number) => void }

const views = ({ rawHeaders, headers, headersDistinct }: IncomingMessage): unknown => JSON.parse(JSON.stringify({ rawHeaders, headers, headersDistinct }))

const asked: Readonly<Record<string, (raw: IncomingMessage) => unknown>> = {
  'nobody has asked for a view': () => undefined,
  'headers are made': (raw) => raw.headers,
  'headersDistinct are made': (raw) => raw.headersDistinct,
  'both are made': (raw) => [raw.headers, raw.headersDistinct]
}

for (const [title, ask] of Object.entries(asked)) {
  t.test(`takes a header out of every view where ${title}`, async (t) => {
    const raw = message()
    const kept = ask(raw)
    removeHeader(raw, 'x-key')
    t.same(views(raw), { rawHeaders: ['Host', 'a', 'Accept', '*/*'], headers: { host: 'a', accept: '*/*' }, headersDistinct: { host: ['a'], accept: ['*/*'] } })
    t.notMatch(JSON.stringify(kept ?? null), /one|two/, 'and out of what somebody kept')
  })

  t.test(`takes only the lines that are ours where ${title}`, async (t) => {
    const raw = message()
    ask(raw)
    removeHeader(raw, 'x-key', 'two')
    const { rawHeaders, headers, headersDistinct } = raw
    t.same([rawHeaders, headers['x-key'], headersDistinct['x-key']], [['Host', 'a', 'X-Key', 'one', 'Accept', '*/*'], 'one', ['one']])
  })

  t.test(`puts a header into every view where ${title}`, async (t) => {
    const raw = message()
    ask(raw)
    addHeader(raw, 'x-new', 'three')
    t.equal(raw.headers['x-new'], 'three')
    t.same(raw.headersDistinct['x-new'], ['three'])
    t.same(raw.rawHeaders.slice(-2), ['x-new', 'three'])
  })
}

for (const [title, ask] of Object.entries(asked)) {
  t.test(`takes the only line of a header out where ${title}`, async (t) => {
    for (const [value, isTaken] of [['Bearer one', true], ['bEARER one', true], ['Basic one', false], ['Bear', false]] as const) {
      const raw = message(['Host', 'a', 'Authorization', value, 'Accept', '*/*'])
      const kept = ask(raw)
      removeHeader(raw, 'x-absent')
      removeHeader(raw, 'authorization', 'bearer')
      const expected = isTaken
        ? { rawHeaders: ['Host', 'a', 'Accept', '*/*'], headers: { host: 'a', accept: '*/*' }, headersDistinct: { host: ['a'], accept: ['*/*'] } }
        : { rawHeaders: ['Host', 'a', 'Authorization', value, 'Accept', '*/*'], headers: { host: 'a', authorization: value, accept: '*/*' }, headersDistinct: { host: ['a'], authorization: [value], accept: ['*/*'] } }
      t.same(views(raw), expected, value)
      t.equal('authorization' in raw.headers, !isTaken, 'and no name is left without a value')
      if (isTaken) t.notMatch(JSON.stringify(kept ?? null), /one/, 'nor in what somebody kept')
    }
  })

  t.test(`leaves of a repeated header what Node leaves of it where ${title}`, async (t) => {
    const cases: readonly (readonly [string, readonly string[], string | undefined])[] = [
      ['authorization', ['Basic one', 'Basic two'], 'Basic one'], ['authorization', ['Basic one', 'Bearer two'], 'Basic one'], ['x-key', ['Bearer one', 'Basic two'], 'Basic two'], ['x-key', ['Basic one', 'Bearer two'], 'Basic one']
    ]
    for (const [name, values, kept] of cases) {
      const raw = message(['Host', 'a', ...values.flatMap((value) => [name, value])])
      ask(raw)
      removeHeader(raw, name, 'bearer')
      t.equal(raw.headers[name], kept, `${name}: ${values.join(' | ')}`)
      t.same(raw.headersDistinct[name], values.filter((value) => value.startsWith('Basic')))
    }
  })
}

t.test('takes a header out of a message whose class has views of its own', async (t) => {
  class Copying extends IncomingMessage {
    readonly copy = { 'x-key': 'one', 'host': 'a' }
    // @ts-expect-error: a property of Node's that is an accessor here
    override get headers () { return this.copy }
  }
  const raw = new Copying(new Socket())
  ;(raw as unknown as Raw)._addHeaderLines([...lines], lines.length)
  removeHeader(raw, 'x-key')
  t.same(raw.headers, { host: 'a' })
})

t.test('what somebody kept holds none of several headers, wherever they go one after another', async (t) => {
  for (const ask of Object.values(asked)) {
    const raw = message(['Host', 'a', 'Authorization', 'Bearer one', 'X-Key', 'two', 'X-Other', 'three'])
    const kept = [raw.headers, ask(raw)]
    for (const name of ['authorization', 'x-key', 'x-other']) removeHeader(raw, name)
    t.notMatch(JSON.stringify(kept), /one|two|three|authorization|x-key|x-other/)
    t.equal(raw.headers, kept[0], 'and it is still what the message has')
    t.same(views(raw), { rawHeaders: ['Host', 'a'], headers: { host: 'a' }, headersDistinct: { host: ['a'] } })
  }
})

t.test('names that every object has are names like others', async (t) => {
  for (const scheme of [undefined, 'bearer']) {
    const raw = message(['Host', 'a'])
    removeHeader(raw, 'constructor', scheme)
    t.notOk(Object.hasOwn(raw.headers, 'constructor'))
    t.same(views(raw), { rawHeaders: ['Host', 'a'], headers: { host: 'a' }, headersDistinct: { host: ['a'] } })
  }
})

t.test('headers that somebody has put in the place of Node\'s stay what they are', async (t) => {
  const raw = message(['Host', 'a', 'X-Key', 'one'])
  const own = Object.assign(Object.create({ inherited: 'yes' }) as IncomingMessage['headers'], { 'x-key': 'one' })
  raw.headers = own
  removeHeader(raw, 'x-key')
  t.equal(raw.headers, own)
  t.same([Object.keys(own), own['inherited'], raw.rawHeaders], [[], 'yes', ['Host', 'a']])
})

t.test('takes a header out of lines that somebody has changed', async (t) => {
  const raw = message()
  raw.rawHeaders.push('X-Added', 'by hand')
  removeHeader(raw, 'x-key')
  t.notMatch(JSON.stringify(views(raw)), /x-key/i)
})

t.test('takes a header out of a message that is not Node\'s own', async (t) => {
  const raw = { rawHeaders: [...lines], headers: { 'host': 'a', 'x-key': 'one, two' } } as unknown as IncomingMessage
  removeHeader(raw, 'x-key')
  t.same(raw, { rawHeaders: ['Host', 'a', 'Accept', '*/*'], headers: { host: 'a' } })
})

t.test('takes out what somebody put into headers by hand, if it is ours', async (t) => {
  for (const [value, kept] of [['Bearer one', undefined], ['Basic one', 'Basic one']] as const) {
    for (const given of [[], ['Authorization', 'Basic two']]) {
      const raw = message(['Host', 'a', ...given])
      raw.headers['authorization'] = value
      removeHeader(raw, 'authorization', 'bearer')
      t.equal(raw.headers['authorization'], kept, `${value} over ${String(given[1])}`)
    }
  }
})

t.test('Node keeps its views where they are looked for', async (t) => {
  const raw = message()
  void raw.headersDistinct
  const names = Object.getOwnPropertySymbols(raw).map(({ description }) => description)
  for (const name of ['kHeaders', 'kHeadersCount', 'kHeadersDistinct']) t.ok(names.includes(name), `${name}: without it, all views are made before a header is taken out`)
})
