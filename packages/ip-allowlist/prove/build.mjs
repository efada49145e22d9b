/**
 * Proves what a list of a million entries (half IPv6) costs: time and memory to build, the longest turn of the event loop
 * meanwhile, and the time of a look-up; plain, and with an end at every entry. Time is what the thread spends on a
 * processor, and of five rounds the best counts: whatever else the machine does only adds.
 *
 * node --expose-gc prove/build.mjs [--entries 1000000] [--rounds 5]
 */

import { openSync, readSync } from 'node:fs'
import { setImmediate } from 'node:timers'
import { setTimeout as wait } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { buildAddressSet, parseAddress } from '../dist/index.js'

const { values } = parseArgs({ options: { entries: { type: 'string', default: '1000000' }, rounds: { type: 'string', default: '5' } } })
const count = Number(values.entries)
const rounds = Number(values.rounds)
const limits = { seconds: 3, megabytes: 64, turnMs: 50, lookUpNs: 1_000 }

function textOf (index) {
  const mixed = Math.imul(index + 1, 2654435761) >>> 0
  if (index % 2 === 0) return `${mixed >>> 24}.${mixed >>> 16 & 255}.${mixed >>> 8 & 255}.${mixed & 255}`
  return `2001:db8:${(mixed >>> 16).toString(16)}:${(mixed & 0xffff).toString(16)}::${(index & 0xffff).toString(16)}`
}

const kinds = {
  'plain': textOf,
  'with ends': (index) => ({ entry: textOf(index), expiresAt: `2099-${String(1 + index % 12).padStart(2, '0')}-01T00:00:00Z` })
}

/** Milliseconds that this thread spent on a processor; where that can't be told, that the process did, with the collector's helpers. */
function createStopwatch () {
  try {
    const file = openSync('/proc/thread-self/schedstat')
    const text = Buffer.alloc(64)
    return () => {
      readSync(file, text, 0, text.length, 0)
      return Number.parseInt(text.toString('latin1'), 10) / 1e6
    }
  } catch {
    return () => {
      const { user, system } = process.cpuUsage()
      return (user + system) / 1_000
    }
  }
}

const spent = createStopwatch()

/** The longest turn of the event loop, as long as it is asked to go on. */
function watchTurns () {
  let longest = 0
  let goesOn = true
  let last = spent()
  const look = () => {
    const now = spent()
    longest = Math.max(longest, now - last)
    last = now
    if (goesOn) setImmediate(look)
  }
  setImmediate(look)
  return () => { goesOn = false; return longest }
}

async function measure (entryOf) {
  const entries = Array.from({ length: count }, (_, index) => entryOf(index))
  await wait(50)
  globalThis.gc()
  const before = process.memoryUsage()
  const longestTurn = watchTurns()
  const startedAt = spent()
  const set = await buildAddressSet(entries)
  const seconds = (spent() - startedAt) / 1_000
  const turnMs = longestTurn()
  globalThis.gc()
  const after = process.memoryUsage()
  const megabytes = (after.arrayBuffers - before.arrayBuffers + Math.max(0, after.heapUsed - before.heapUsed)) / 1_048_576
  const peers = Array.from({ length: 4_096 }, (_, i) => parseAddress(textOf(i * 241 % count)))
  let found = 0
  const lookUps = () => { for (const peer of peers) if (set.hasParsed(peer)) found++ }
  for (let i = 0; i < 20; i++) lookUps()
  const from = spent()
  for (let i = 0; i < 50; i++) lookUps()
  const lookUpNs = (spent() - from) / (50 * peers.length) * 1e6
  if (found !== 70 * peers.length) throw new Error('a listed address was not found')
  return { seconds, megabytes, turnMs, lookUpNs }
}

for (const [kind, entryOf] of Object.entries(kinds)) {
  const results = []
  for (let round = 0; round < rounds; round++) results.push(await measure(entryOf))
  const found = Object.fromEntries(Object.keys(limits).map((name) => [name, Math.min(...results.map((result) => result[name]))]))
  const over = Object.entries(limits).filter(([name, limit]) => found[name] >= limit).map(([name]) => name)
  console.log(`${count} entries, ${kind}: built in ${found.seconds.toFixed(2)} s and ${found.megabytes.toFixed(1)} MB, longest turn ${found.turnMs.toFixed(1)} ms, look-up ${found.lookUpNs.toFixed(0)} ns${over.length > 0 ? `; over the limit: ${over.join(', ')}` : ''}`)
  if (over.length > 0) process.exitCode = 1
}
