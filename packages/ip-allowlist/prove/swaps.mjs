// No request is judged by anything but one whole version of its list: requests in every spelling, while the list is swapped
// again and again, each decision against the oracle of the version that is in force at that very moment. The tests run it with
// smaller numbers: [--requests 10000] [--swaps 100] [--entries 10000] [--large-swaps 3] [--large-entries 1000000] [--seed 1]

import { parseArgs } from 'node:util'
import Fastify from 'fastify'
import { ipAllowlist, memoryListStore, refreshLists } from '../dist/index.js'
import { createRandom, randomList, randomPeer } from '../test/fixtures/random-lists.mjs'

const text = (value) => ({ type: 'string', default: String(value) })
const { values } = parseArgs({ options: { requests: text(10_000), swaps: text(100), entries: text(10_000), 'large-swaps': text(3), 'large-entries': text(1_000_000), seed: text(1) } })
const minRequests = Number(values.requests)
const randomForLists = createRandom(Number(values.seed))
const randomForPeers = createRandom(Number(values.seed) + 1)

let now = Date.parse('2026-11-26T12:00:00Z')
/** What the versions hold, by version: the oracles. */
const known = new Map()
let inForce
const wrong = []
const peers = []
let decisions = 0
let passed = 0

const store = memoryListStore({ lists: { gateway: [] } })
const app = Fastify({ genReqId: ({ headers }) => headers['x-number'] })
await app.register(ipAllowlist, {
  store,
  allow: { list: 'gateway' },
  refreshMs: 20,
  clock: () => now,
  onListEvent: (event) => {
    if (event.kind === 'loaded') inForce = event.version
    else if (event.kind === 'failed') wrong.push(`the list could not be read: ${event.cause}`)
  },
  onDecision: ({ requestId, outcome }) => {
    const peer = peers[Number(requestId)]
    const expected = known.get(inForce)?.lists(peer, now) ?? false
    decisions++
    if (expected) passed++
    peer.expected = expected ? 200 : 403
    if ((outcome === 'passed') !== expected) wrong.push(`${peer.text} was ${outcome}, the oracle says ${expected ? 'listed' : 'not listed'}`)
  }
})
app.get('/', { onRequest: app.ipAllowlist }, () => 'served')
await app.ready()

async function swap (entries, byPoll) {
  const list = randomList(randomForLists, entries, now)
  const { version: expected } = await store.read('gateway')
  const change = { list: 'gateway', at: new Date(now).toISOString(), by: {}, action: 'replaced', forced: false, added: [], addedCount: 0, removed: [], removedCount: 0 }
  const { version } = await store.replace({ name: 'gateway', expected, entries: list.entries, change })
  known.set(version, { lists: list.lists, samples: list.samples })
  if (!byPoll) await refreshLists(store)
  while (inForce !== version) await new Promise((resolve) => { setTimeout(resolve, 1) })
  // Nobody can be judged by what came before any more.
  for (const old of known.keys()) if (old !== version) known.delete(old)
}

let swapping = true
async function swapAll () {
  const swaps = Number(values.swaps)
  const large = Number(values['large-swaps'])
  for (let i = 0; i < swaps; i++) {
    await swap(Number(values.entries), i % 2 === 1)
    const isDue = Math.floor((i + 1) * large / swaps) > Math.floor(i * large / swaps)
    if (isDue) await swap(Number(values['large-entries']), false)
  }
  swapping = false
}

async function request () {
  const { samples = [{ family: 4, value: 0x0a000001n }] } = known.get(inForce) ?? {}
  const peer = randomPeer(randomForPeers, samples)
  const number = peers.push(peer) - 1
  const { statusCode } = await app.inject({ url: '/', remoteAddress: peer.text, headers: { 'x-number': String(number) } })
  if (statusCode !== peer.expected) wrong.push(`${peer.text} was answered ${statusCode}, and not ${peer.expected}`)
  now += 1
}

const startedAt = performance.now()
const swapped = swapAll()
while (swapping || peers.length < minRequests) {
  await Promise.all(Array.from({ length: 8 }, request))
  await new Promise((resolve) => { setTimeout(resolve, 0) })
}
await swapped
await app.close()

for (const line of wrong.slice(0, 20)) console.error(`wrong: ${line}`)
const seconds = (performance.now() - startedAt) / 1_000
const isTelling = decisions >= minRequests && passed > decisions / 10 && passed < decisions * 9 / 10
say({ name: `wrong decisions during ${values.swaps} swaps of ${values.entries} and ${values['large-swaps']} of ${values['large-entries']} entries`, value: wrong.length, unit: `of ${decisions}`, target: '= 0', holds: wrong.length === 0 && isTelling })
say({ name: 'requests that passed meanwhile, so that both answers are proved', value: passed, unit: `of ${decisions}`, target: '10 to 90 %', holds: isTelling })
console.log(`${seconds.toFixed(1)} s`)
if (wrong.length > 0 || !isTelling) process.exitCode = 1

function say (fact) {
  console.log(JSON.stringify(fact))
}
