// A list of a million networks and addresses, half of them IPv6: how long it takes to build, what it keeps, how long it holds
// up the process meanwhile, and a look-up. Needs --expose-gc. Of five runs the median times count, and the
// most memory. Once plain, and once with an end at every entry.
import { setTimeout as sleep } from 'node:timers/promises'
import { buildAddressSet } from '../dist/index.js'

const count = 1_000_000
const lookups = 500_000
// Through JSON, because pasted strings shrink when they are first read, which would count in the list's favour.
const entries = JSON.parse(JSON.stringify(Array.from({ length: count }, (_, i) => {
  // Spread over both families' space: multiplying by an odd number visits each 32-bit value once.
  const mixed = Math.imul(i, 2_654_435_761) >>> 0
  return i % 2 === 0 ? `${dotted(mixed)}${i % 4 === 0 ? '/28' : ''}` : `2001:db8:${groups(mixed)}::${i % 4 === 1 ? '/64' : '1'}`
})))
const probes = Array.from({ length: lookups }, (_, i) => {
  const mixed = Math.imul(i, 40_503) >>> 0
  return i % 3 === 0 ? entries[mixed % count].replace(/\/\d+$/, '') : i % 3 === 1 ? dotted(mixed) : `2001:db8:${groups(mixed)}::2`
})

await prove('a million entries', entries)
await prove('a million entries with ends', JSON.parse(JSON.stringify(entries.map((entry, i) => ({ entry, expiresAt: `2099-${String(1 + i % 12).padStart(2, '0')}-01T00:00:00Z` })))))

async function prove (what, list) {
  const runs = []
  for (let i = 0; i < 5; i++) runs.push(await build(list))
  const median = (key) => runs.map((run) => run[key]).sort((one, other) => one - other)[2]
  const [seconds, blockedMs, lookupMicros] = [median('seconds'), median('blockedMs'), median('lookupMicros')]
  const megabytes = Math.max(...runs.map((run) => run.megabytes))
  say({ name: `${what}: built in`, value: round(seconds, 2), unit: 's', target: '< 3', holds: seconds < 3 })
  say({ name: `${what}: kept in memory`, value: round(megabytes, 1), unit: 'MB', target: '< 64', holds: megabytes < 64 })
  say({ name: `${what}: longest turn of the event loop while building`, value: round(blockedMs, 1), unit: 'ms', target: '< 50', holds: blockedMs < 50 })
  say({ name: `${what}: one look-up`, value: round(lookupMicros, 2), unit: 'us', target: '< 1', holds: lookupMicros < 1 })
}

async function build (list) {
  const before = await usedBytes()
  const watch = watchTurns()
  const start = performance.now()
  const set = await buildAddressSet(list)
  const seconds = (performance.now() - start) / 1_000
  const blockedMs = watch.stop()
  const megabytes = (await usedBytes() - before) / 1e6
  if (!entries.every((entry, i) => i % 1_000 !== 0 || set.has(entry.replace(/\/\d+$/, '')))) throw new Error('the set lacks an entry')
  const asked = performance.now()
  let found = 0
  for (const probe of probes) if (set.has(probe)) found++
  const lookupMicros = (performance.now() - asked) * 1_000 / lookups
  if (found < lookups / 3 || found === lookups) throw new Error(`${found} of ${lookups} probes were found`)
  return { seconds, megabytes, blockedMs, lookupMicros }
}

/** The longest time between two turns of the event loop. */
function watchTurns () {
  let [longest, last, isWatching] = [0, performance.now(), true]
  const turn = () => {
    const now = performance.now()
    longest = Math.max(longest, now - last)
    last = now
    if (isWatching) setImmediate(turn)
  }
  setImmediate(turn)
  return { stop () { isWatching = false; turn(); return longest } }
}

async function usedBytes () {
  // Buffers that were dropped are taken off the books a moment later.
  for (let i = 0; i < 2; i++) {
    globalThis.gc()
    await sleep(100)
  }
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

function dotted (value) {
  return [24, 16, 8, 0].map((shift) => value >>> shift & 255).join('.')
}

function groups (value) {
  return `${(value >>> 16).toString(16)}:${(value & 0xffff).toString(16)}`
}

function round (value, digits) {
  return Number(value.toFixed(digits))
}

function say (fact) {
  console.log(JSON.stringify(fact))
}
