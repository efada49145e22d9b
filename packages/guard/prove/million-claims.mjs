// A million live claims with long keys. Needs --expose-gc.
import { memoryStore } from '../dist/index.js'

const count = 1_000_000
const maxMegabytes = 200
const longKey = 'a-key-as-long-as-a-client-likes:'.repeat(6)

const before = measure()
const store = memoryStore({ maxEntries: count })
for (let i = 0; i < count; i++) {
  const { claimed } = await store.claim(longKey + i, 3_600_000)
  if (!claimed) throw new Error('a key was taken for another')
}
const after = measure()
say({ name: 'live claims held', value: store.size, unit: 'claims', target: `= ${count}`, holds: store.size === count })
sayMegabytes('a million live claims: heap, buffers and external memory', after.used - before.used)
sayMegabytes('a million live claims: resident set', after.resident - before.resident)

function measure () {
  globalThis.gc()
  const { heapUsed, external, rss } = process.memoryUsage()
  return { used: heapUsed + external, resident: rss }
}

function sayMegabytes (name, bytes) {
  const value = Math.round(bytes / 1e6)
  say({ name, value, unit: 'MB', target: `< ${maxMegabytes}`, holds: value < maxMegabytes })
}

function say (fact) {
  console.log(JSON.stringify(fact))
}
