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
