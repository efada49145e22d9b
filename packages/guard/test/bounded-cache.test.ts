import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { BoundedCache } from '../src/index.js'

t.test('keeps what is asked for and forgets the rest, in bounded memory', async (t) => {
  const cache = new BoundedCache<number>(100)
  const held = () => Array.from({ length: 10_000 }, (_, i) => cache.get(String(i))).filter((value) => value !== undefined).length
  cache.set('hot', -1)
  for (let i = 0; i < 10_000; i++) {
    cache.set(String(i), i)
    if (i % 40 === 0) t.equal(cache.get('hot'), -1)
  }
  t.equal(cache.get('9999'), 9999)
  t.equal(cache.get('0'), undefined)
  cache.set('9999', 1)
  t.equal(cache.get('9999'), 1, 'a new value takes the place of the old one')
  cache.delete('9999')
  t.equal(cache.get('9999'), undefined)
  t.ok(held() <= 100)
  const none = new BoundedCache<number>(0)
  none.set('a', 1)
  t.equal(none.get('a'), undefined)
})

t.test('keeps keys, and not the texts that they were cut out of', async (t) => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const cache = new BoundedCache<number>(200)
  const keyOf = (i: number): string => `${String(i).padStart(40, 'k')}${'x'.repeat(400_000)}`.slice(0, 40)
  collect()
  const before = process.memoryUsage().heapUsed
  for (let i = 0; i < 150; i++) cache.set(keyOf(i), i)
  // Asked for again with another such text: those of the older half are set anew.
  let found = 0
  for (let i = 0; i < 150; i++) if (cache.get(keyOf(i)) === i) found++
  collect()
  const grown = (process.memoryUsage().heapUsed - before) / 1e6
  t.ok(grown < 10, `${grown.toFixed(1)} MB; the texts have 60`)
  t.ok(found >= 100, `${found} were still known`)
})
