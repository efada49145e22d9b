/**
 * Random lists, random peers, and an oracle that knows what is listed: sets of bigints by prefix length, which share
 * nothing with the code under test. The same seed gives the same lists.
 */

const prefixes = { 4: [16, 28, 32], 6: [48, 64, 128] }
const bits = { 4: 32, 6: 128 }
const mappedBlock = 0xffffn << 32n

/** A small generator of 32-bit numbers (xorshift). */
export function createRandom (seed) {
  let state = seed >>> 0 || 1
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

function masked (value, family, prefix) {
  const hostBits = BigInt(bits[family] - prefix)
  return value >> hostBits << hostBits
}

function randomValue (random, family) {
  const word = BigInt(random(0x100000000))
  if (family === 4) return 0x0a000000n | word & 0xffffffn
  return 0x20010db8n << 96n | word << 64n | BigInt(random(4)) << 48n | BigInt(random(0x100000000))
}

function dotted (value) {
  return [24n, 16n, 8n, 0n].map((shift) => String(value >> shift & 255n)).join('.')
}

function groupsOf (value) {
  return Array.from({ length: 8 }, (_, index) => (value >> BigInt(112 - 16 * index) & 0xffffn).toString(16))
}

/** One of the ways to write an address. */
function spell (random, family, value) {
  const wide = family === 4 ? mappedBlock | value : value
  const groups = groupsOf(wide)
  const way = random(family === 4 ? 8 : 4)
  if (way >= 4) return dotted(value)
  if (way === 0) return groups.map((group) => group.padStart(4, '0')).join(':').toUpperCase()
  if (way === 1) return groups.join(':')
  if (way === 2) return [...groups.slice(0, 6), dotted(wide & 0xffffffffn)].join(':')
  return new URL(`http://[${groups.join(':')}]/`).hostname.slice(1, -1)
}

/** `count` entries, half IPv6, one in twenty with an end; and `lists(peer, now)`, which says whether they hold a peer. */
export function randomList (random, count, now) {
  const ends = { 4: new Map(), 6: new Map() }
  for (const family of [4, 6]) for (const prefix of prefixes[family]) ends[family].set(prefix, new Map())
  const entries = new Array(count)
  const samples = []
  for (let index = 0; index < count; index++) {
    const family = index % 2 === 0 ? 4 : 6
    const kind = random(100)
    const prefix = prefixes[family][kind === 0 ? 0 : kind < 10 ? 1 : 2]
    const value = randomValue(random, family)
    // Most are written plainly, since spelling takes longer than what is to be proved.
    const literal = index % 8 < 6 ? (family === 4 ? dotted(value) : groupsOf(value).join(':')) : spell(random, family, value)
    const written = family === 4 && literal.includes(':') ? prefix + 96 : prefix
    const text = prefix === bits[family] ? literal : `${literal}/${written}`
    const end = index % 20 === 0 ? now + random(20_000) - 5_000 : Infinity
    entries[index] = end === Infinity ? text : { entry: text, expiresAt: new Date(end).toISOString() }
    const known = ends[family].get(prefix)
    const network = masked(value, family, prefix)
    known.set(network, Math.max(end, known.get(network) ?? -Infinity))
    if (samples.length < 2_000 || random(count) < 2_000) samples[samples.length < 2_000 ? samples.length : random(2_000)] = { family, value }
  }
  const lists = ({ family, value }, at) => prefixes[family].some((prefix) => at < (ends[family].get(prefix).get(masked(value, family, prefix)) ?? -Infinity))
  return { entries, samples, lists }
}

/** A peer that is listed, or close to one that is, or a stranger; in some spelling, as a socket gives it. */
export function randomPeer (random, samples) {
  const { family, value } = random(5) === 0 ? { family: random(2) === 0 ? 4 : 6, value: undefined } : samples[random(samples.length)]
  const near = value === undefined ? randomValue(random, family) : value + BigInt([0, 0, 1, -1][random(4)])
  const text = spell(random, family, near)
  return { family, value: near, text: text.includes(':') && random(8) === 0 ? `${text}%eth0` : text }
}
