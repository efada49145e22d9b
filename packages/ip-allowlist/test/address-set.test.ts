import { monitorEventLoopDelay } from 'node:perf_hooks'
import * as fc from 'fast-check'
import t from 'tap'
import { formatAddress, parseAddress, parseEntry } from '../src/address.js'
import { buildAddressSet, createAddressSet } from '../src/address-set.js'

const mappedBlock = 0xffffn << 32n

/** The oracle's address: IPv4 as 32 bits, IPv6 as 128. Nothing here is shared with the code under test. */
interface Address { readonly bits: 32 | 128, readonly value: bigint }
interface Rule { readonly from: Address, readonly last: bigint, readonly text: string }

function dotted (value: bigint): string {
  return [24n, 16n, 8n, 0n].map((shift) => String(value >> shift & 255n)).join('.')
}

function expanded (value: bigint): string {
  return value.toString(16).padStart(32, '0').match(/.{4}/g)!.join(':')
}

function short (value: bigint): string {
  return expanded(value).replace(/(^|:)0{1,3}/g, '$1')
}

/** As browsers write it: the first of the longest runs of zeros is left out. */
function compressed (value: bigint): string {
  return new URL(`http://[${expanded(value)}]/`).hostname.slice(1, -1)
}

function everyLiteral ({ bits, value }: Address): string[] {
  const wide = bits === 32 ? mappedBlock | value : value
  const tail = `:${dotted(wide & 0xffffffffn)}`
  const spellings = [expanded(wide), short(wide), compressed(wide), short(wide).split(':').slice(0, 6).join(':') + tail]
  if (bits === 32) spellings.push(`::ffff${tail}`, `::FFFF${tail}`, `0::ffff${tail}`, `::ffff:${short(value).split(':').slice(6).join(':')}`)
  const both = spellings.flatMap((text) => [text, text.toUpperCase()])
  return bits === 32 ? [dotted(value), ...both] : both
}

function everyPeerSpelling (address: Address): string[] {
  return everyLiteral(address).flatMap((text) => text.includes(':') ? [text, `${text}%eth0`, `${text}%25eth0.1`] : [text])
}

const address = fc.oneof(
  fc.bigInt({ min: 0n, max: 2n ** 32n - 1n }).map((value): Address => ({ bits: 32, value })),
  fc.bigInt({ min: 0x0a000000n, max: 0x0a00001fn }).map((value): Address => ({ bits: 32, value })),
  fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }).filter((value) => value >> 32n !== 0xffffn).map((value): Address => ({ bits: 128, value })),
  fc.bigInt({ min: 0n, max: 31n }).map((value): Address => ({ bits: 128, value: 0x20010db8n << 96n | value << 30n }))
)

const pick = <T>(items: readonly T[], choice: number) => items[choice % items.length]!

const network = fc.tuple(address, fc.nat(), fc.nat()).map(([from, length, spelling]): Rule => {
  const prefix = 1 + length % from.bits
  const hostMask = (1n << BigInt(from.bits - prefix)) - 1n
  const text = pick(everyLiteral(from), spelling)
  const written = from.bits === 32 && text.includes(':') ? prefix + 96 : prefix
  return { from: { bits: from.bits, value: from.value & ~hostMask }, last: from.value | hostMask, text: prefix === from.bits && length % 2 === 0 ? text : `${text}/${written}` }
})

const span = fc.tuple(address, fc.bigInt({ min: 0n, max: 2n ** 31n }), fc.nat()).map(([from, width, spelling]): Rule => {
  const end = from.value + width
  const last = end < 1n << BigInt(from.bits) && (from.bits === 32 || end >> 32n !== 0xffffn) ? end : from.value
  return { from, last, text: `${pick(everyLiteral(from), spelling)}-${pick(everyLiteral({ bits: from.bits, value: last }), spelling + 1)}` }
})

const rules = fc.array(fc.oneof(network, span), { minLength: 1, maxLength: 12 })

function isListed (list: readonly Rule[], peer: Address): boolean {
  return list.some((rule) => rule.from.bits === peer.bits && rule.from.value <= peer.value && peer.value <= rule.last)
}

function aroundEdges (list: readonly Rule[]): Address[] {
  return list
    .flatMap(({ from, last }) => [from.value - 1n, from.value, last, last + 1n].map((value) => ({ bits: from.bits, value })))
    .filter(({ bits, value }) => value >= 0n && value < 1n << BigInt(bits) && (bits === 32 || value >> 32n !== 0xffffn))
}

/** `count` entries, half IPv6, in no order, with neighbours and repetitions. */
function manyEntries (count: number): string[] {
  return Array.from({ length: count }, (_, index) => {
    const mixed = Math.imul(index + 1, 2654435761) >>> 0
    return index % 2 === 0 ? `${dotted(BigInt(mixed))}${index % 6 === 0 ? '/28' : ''}` : `2001:db8:${(mixed >>> 16).toString(16)}:${(mixed & 0xffff).toString(16)}::${index % 5}`
  })
}

t.test('reads every spelling of an address as one canonical form', async (t) => {
  const spellings: [canonical: string, ...texts: string[]][] = [
    ['0.0.0.0', '0.0.0.0', '::ffff:0:0', '::ffff:0.0.0.0'],
    ['255.255.255.255', '255.255.255.255', '::FFFF:FFFF:FFFF', '0:0:0:0:0:ffff:255.255.255.255'],
    ['172.16.254.3', '172.16.254.3', '::ffff:172.16.254.3', '::ffff:ac10:fe03', '0::FfFf:AC10:Fe03', '0000:0000:0000:0000:0000:ffff:ac10:fe03', '::0:ffff:172.16.254.3', '::ffff:172.16.254.3%eth0'],
    ['::', '::', '0:0:0:0:0:0:0:0', '0::', '::0', '::0.0.0.0', '0::0'],
    ['::1', '::1', '0:0::0:1', '::0001', '::0.0.0.1'],
    ['::ac10:fe03', '::172.16.254.3', '::ac10:fe03'],
    ['64:ff9b::ac10:fe03', '64:ff9b::172.16.254.3'],
    ['::ffff:0:ac10:fe03', '::ffff:0:172.16.254.3'],
    ['1:2:3:4:5:6:7:0', '1:2:3:4:5:6:7::', '1:2:3:4:5:6:7:0'],
    ['0:2:3:4:5:6:7:8', '::2:3:4:5:6:7:8'],
    ['1:0:3:4:5:6:7:8', '1::3:4:5:6:7:8'],
    ['2001:db8::1:0:0:1', '2001:db8:0:0:1::1', '2001:DB8:0:0:1:0:0:1'],
    ['fe80::a', 'fe80::a', 'fe80::a%eth0', 'FE80::A%3', 'fe80::a%25en0', 'fe80::a%eth0:1', 'fe80::a%127.0.0.1']
  ]
  for (const [canonical, ...texts] of spellings) {
    for (const text of texts) t.equal(formatAddress(parseAddress(text)!), canonical, text)
  }
})

t.test('takes nothing else for an address', async (t) => {
  const texts = [
    '', ' ', '1', '1.2.3', '1.2.3.4.5', '1.2.3.', '.1.2.3', '1..2.3', '1.2.3.256', '1.2.3.999', '01.2.3.4', '1.2.3.04', '00.0.0.0', '0x1.2.3.4', '0x01020304', '16909060',
    '+1.2.3.4', '-1.2.3.4', '1.2.3.-4', '1e1.2.3.4', ' 1.2.3.4', '1.2.3.4 ', '1.2.3.4\n', '1.2.3.4\0', '1.2.3.4\0.5', '1.2.3.4:80', '1.2.3.4/32', '1.2.3.4-1.2.3.5', '1.2.3.4%eth0', '1.2.3.4,5.6.7.8',
    '１.2.3.4', '1。2。3。4', '1.2.3.4\u200b', 'localhost', 'unknown', '_hidden', '*',
    ':', ':::', ':1', '1:', '1::2::3', '::1::', '1:2:3:4:5:6:7', '1:2:3:4:5:6:7:8:9', '1:2:3:4:5:6:7:8::', '1:2:3:4::5:6:7:8', '::00001', '::g', '::-1', '[::1]', '[::1]:443', '::1/128', ' ::1', '::1\0', '::ffff:1.2.3', '::ffff:1.2.3.256',
    '::ffff:01.2.3.4', '::1.2.3.4:5', '1.2.3.4::', '::%', 'fe80::1%', 'fe80::1%a b', 'fe80::1%a%b', 'fe80::1%\0', 'fe80::1%eth0/64', '%eth0', '::ffff:1.2.3.256%eth0'
  ]
  for (const text of texts) t.equal(parseAddress(text), undefined, JSON.stringify(text))
  for (const value of [undefined, null, 16909060, ['1.2.3.4'], { toString: () => '1.2.3.4' }]) t.equal(parseAddress(value), undefined)
})

t.test('reads and writes any address as an independent bigint does', async () => {
  fc.assert(fc.property(address, (peer) => {
    const canonical = peer.bits === 32 ? dotted(peer.value) : compressed(peer.value)
    return everyPeerSpelling(peer).every((text) => formatAddress(parseAddress(text)!) === canonical)
  }), { numRuns: 300 })
})

t.test('agrees with a bigint oracle on any rules, for every spelling of a peer', async (t) => {
  fc.assert(fc.property(rules, fc.array(address, { maxLength: 8 }), (list, strangers) => {
    const set = createAddressSet(list.map((rule) => rule.text), { allowAny: true, allowRanges: true })
    for (const peer of [...strangers, ...aroundEdges(list)]) {
      const expected = isListed(list, peer)
      for (const text of everyPeerSpelling(peer)) {
        if (set.has(text) !== expected) throw new Error(`${text} in ${list.map((rule) => rule.text).join(' ')}: expected ${expected}`)
      }
    }
  }), { numRuns: 300 })
  t.pass('an allow list and a deny list of the same rules never differ about a peer')
})

t.test('agrees with a bigint oracle on entries that end, at every moment', async (t) => {
  const ending = fc.array(fc.record({ rule: fc.oneof(network, span), end: fc.constantFrom(Infinity, 1_000, 2_000, 3_000, 4_000) }), { minLength: 1, maxLength: 14 })
  fc.assert(fc.property(ending, (list) => {
    let now = 0
    const entries = list.map(({ rule, end }) => end === Infinity ? rule.text : { entry: rule.text, expiresAt: new Date(end).toISOString() })
    const set = createAddressSet(entries, { allowAny: true, allowRanges: true, clock: () => now })
    for (now of [0, 999, 1_000, 1_999, 2_000, 3_500, 4_000]) {
      const live = list.filter(({ end }) => now < end).map(({ rule }) => rule)
      for (const peer of aroundEdges(list.map(({ rule }) => rule))) {
        if (set.has(everyLiteral(peer)[0]!) !== isListed(live, peer)) throw new Error(`${everyLiteral(peer)[0]} at ${now} in ${JSON.stringify(entries)}`)
      }
    }
  }), { numRuns: 300 })
  t.pass('an entry counts until before its end, and what covers the same for longer goes on')
})

t.test('takes a note and an end with an entry, and nothing that only looks like it', async (t) => {
  const now = Date.parse('2027-01-31T18:00:00Z')
  const set = createAddressSet([{ entry: '10.0.0.1', note: 'scanner', expiresAt: '2027-01-31T18:00:00.001Z' }, { entry: '10.0.0.2', expiresAt: '2027-01-31T18:00:00Z' }, { entry: '2001:db8::1' }], { clock: () => now })
  t.same(['10.0.0.1', '10.0.0.2', '2001:db8::1'].map((text) => set.has(text)), [true, false, true])
  const wrong: [entry: unknown, rule: RegExp][] = [
    [{}, /must be a string/], [{ entry: 7 }, /must be a string/], [{ entry: ['10.0.0.1'] }, /must be a string/], [['10.0.0.1'], /string, or an object/],
    [{ entry: '10.0.0.1', expires: '2027-01-31T18:00:00Z' }, /no other members than entry, note, expiresAt/],
    [{ entry: '10.0.0.1', note: '' }, /note of 1 to 200/], [{ entry: '10.0.0.1', note: 'x'.repeat(201) }, /note of 1 to 200/], [{ entry: '10.0.0.1', note: null }, /note of 1 to 200/],
    ...[
      null, 1_801_418_400_000, new Date(0), '', 'never', '2027-01-31', '2027-01-31T18:00Z', '2027-01-31T18:00:00', '2027-01-31T18:00:00+00:00', '2027-02-30T18:00:00Z', '2027-13-01T18:00:00Z',
      '2027-01-31T24:00:00Z', '2027-01-31T18:60:00Z', '2027-01-31 18:00:00Z', '2027-01-31t18:00:00z', '12027-01-31T18:00:00Z', ' 2027-01-31T18:00:00Z', '2027-01-31T18:00:00.0001Z', '2027-02-29T00:00:00Z'
    ].map((expiresAt): [unknown, RegExp] => [{ entry: '10.0.0.1', expiresAt }, /expiresAt such as/])
  ]
  for (const [entry, rule] of wrong) {
    t.throws(() => createAddressSet(['10.0.0.1', entry as string]), { code: 'ERR_GUARD_OPTIONS', option: 'entries[1]', message: rule }, JSON.stringify(entry))
  }
})

t.test('lets the highest address of a family end like any other', async (t) => {
  let now = 0
  const set = createAddressSet([
    { entry: '255.255.255.0/24', expiresAt: new Date(2_000).toISOString() }, { entry: '255.255.255.255', expiresAt: new Date(1_000).toISOString() }, '0.0.0.0',
    { entry: 'ffff::/16', expiresAt: new Date(1_000).toISOString() }, { entry: 'ffff:ffff::/32', expiresAt: new Date(2_000).toISOString() }, '::'
  ], { clock: () => now })
  const top = ['255.255.255.255', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff']
  for (const [at, listed] of [[1_999, true], [2_000, false]] as const) {
    now = at
    for (const text of top) t.equal(set.has(text), listed, `${text} at ${at}`)
    t.ok(set.has('0.0.0.0') && set.has('::'))
  }
})

t.test('refuses an entry that became longer while it was compiled', async (t) => {
  let reads = 0
  const entry = { get entry () { return reads++ === 0 ? '10.0.0.1' : '2001:db8::1' } }
  await t.rejects(buildAddressSet([entry]), { option: 'entries[0]', message: /changed while it was compiled/ })
})

t.test('keeps the boundaries of an entry', async (t) => {
  const cases: { entry: string, inside: string[], outside: string[] }[] = [
    { entry: '198.51.100.7', inside: ['198.51.100.7'], outside: ['198.51.100.6', '198.51.100.8', '98.51.100.7'] },
    { entry: '198.51.100.4/30', inside: ['198.51.100.4', '198.51.100.7'], outside: ['198.51.100.3', '198.51.100.8'] },
    { entry: '0.0.0.0/1', inside: ['0.0.0.0', '127.255.255.255'], outside: ['128.0.0.0', '::'] },
    { entry: '128.0.0.0/1', inside: ['128.0.0.0', '255.255.255.255'], outside: ['127.255.255.255'] },
    { entry: '255.255.255.255/32', inside: ['255.255.255.255'], outside: ['255.255.255.254', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'] },
    { entry: '::ffff:198.51.100.0/120', inside: ['198.51.100.0', '198.51.100.255', '::ffff:c633:6401'], outside: ['198.51.101.0', '::198.51.100.1', '64:ff9b::198.51.100.1'] },
    { entry: '2001:db8:4::/47', inside: ['2001:db8:4::', '2001:db8:5:ffff:ffff:ffff:ffff:ffff'], outside: ['2001:db8:3:ffff:ffff:ffff:ffff:ffff', '2001:db8:6::'] },
    { entry: '2001:db8::/33', inside: ['2001:db8:7fff:ffff:ffff:ffff:ffff:ffff'], outside: ['2001:db8:8000::', '2001:db7:ffff:ffff:ffff:ffff:ffff:ffff'] },
    { entry: '8000::/1', inside: ['8000::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'], outside: ['7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', '255.255.255.255'] },
    { entry: '::/95', inside: ['::1', '::1:ffff:ffff'], outside: ['::2:0:0', '0.0.0.1'] },
    { entry: '::ffff:0:0/95', inside: ['::fffe:0:0'], outside: ['::fffd:ffff:ffff', '1.2.3.4', '::ffff:1.2.3.4', '::ffff:102:304'] },
    { entry: '::8/128', inside: ['::8'], outside: ['::7', '::9', '0.0.0.8'] },
    { entry: '198.51.100.250-198.51.101.3', inside: ['198.51.100.250', '198.51.101.3'], outside: ['198.51.100.249', '198.51.101.4'] },
    { entry: '2001:db8::ffff:ffff-2001:db8::1:0:2', inside: ['2001:db8::ffff:ffff', '2001:db8::1:0:0', '2001:db8::1:0:2'], outside: ['2001:db8::ffff:fffe', '2001:db8::1:0:3'] },
    { entry: '::ffff:10.0.0.9-10.0.0.9', inside: ['10.0.0.9'], outside: ['10.0.0.8', '10.0.0.10'] }
  ]
  for (const { entry, inside, outside } of cases) {
    const set = createAddressSet([entry], { allowRanges: true })
    for (const text of inside) t.equal(set.has(text), true, `${text} is in ${entry}`)
    for (const text of outside) t.equal(set.has(text), false, `${text} is not in ${entry}`)
  }
})

t.test('joins what overlaps, whatever the order and the nesting', async (t) => {
  const entries = ['10.0.0.0/30', '10.0.0.0/8', '10.200.0.0/16', '10.0.0.1', '10.0.0.1', '9.255.255.0-10.0.0.9', '2001:db8::/32', '2001:db8:ffff::/48', '2001:db8::1', '12.0.0.0']
  for (const list of [entries, entries.toReversed(), entries.toSorted()]) {
    const set = createAddressSet(list, { allowRanges: true })
    t.equal(set.size, entries.length)
    for (const text of ['9.255.255.0', '10.0.0.0', '10.200.255.255', '10.255.255.255', '12.0.0.0', '2001:db8::', '2001:db8:ffff:ffff:ffff:ffff:ffff:ffff']) t.equal(set.has(text), true, text)
    for (const text of ['9.255.254.255', '11.0.0.0', '11.255.255.255', '12.0.0.1', '2001:db9::', '2001:db7::']) t.equal(set.has(text), false, text)
  }
})

t.test('finds its way in long lists, at every length', async (t) => {
  for (const count of [1, 2, 63, 64, 65, 127, 128, 129, 1_000]) {
    const every = Array.from({ length: 2 * count + 2 }, (_, i) => i)
    for (const textOf of [(i: number) => dotted(0x0a000000n + BigInt(i)), (i: number) => compressed((0x20010db8n << 96n) + BigInt(i))]) {
      const set = createAddressSet(every.filter((i) => i % 2 === 1 && i < 2 * count).map(textOf).toReversed())
      const wrong = every.filter((i) => set.has(textOf(i)) !== (i % 2 === 1 && i < 2 * count))
      t.same(wrong, [], `${count} entries such as ${textOf(1)}`)
    }
  }
})

t.test('refuses an entry that is no address, network or range, and names it', async (t) => {
  const cases: [entry: unknown, rule: RegExp][] = [
    [undefined, /must be a string/], [null, /must be a string/], [7, /must be a string/], [['10.0.0.1'], /must be a string/], [Object.create(null), /must be a string/],
    ['', /must be an IPv4 or IPv6 address/], ['*', /must be an IPv4/], ['any', /must be an IPv4/], ['10.0.0', /must be an IPv4/], ['10/8', /must be an IPv4/], ['010.0.0.0/8', /must be an IPv4/],
    ['0x0a.0.0.0/8', /must be an IPv4/], [' 10.0.0.0/8', /must be an IPv4/], ['10.0.0.0 /8', /must be an IPv4/], ['/8', /must be an IPv4/], ['[2001:db8::]/32', /must be an IPv4/], ['10.0.0.1:80', /must be an IPv4/],
    ['10.0.0.1\0', /must be an IPv4/], ['10.0.0.0/', /prefix length from 0 to 32/], ['10.0.0.0/33', /from 0 to 32/], ['10.0.0.0/08', /from 0 to 32/], ['10.0.0.0/-1', /from 0 to 32/], ['10.0.0.0/+8', /from 0 to 32/],
    ['10.0.0.0/8 ', /from 0 to 32/], ['10.0.0.0/8\n', /from 0 to 32/], ['10.0.0.0/8.0', /from 0 to 32/], ['10.0.0.0/8/8', /from 0 to 32/], ['10.0.0.0/1e1', /from 0 to 32/], ['10.0.0.0/255.0.0.0', /from 0 to 32/],
    ['10.0.0.0/８', /from 0 to 32/], ['2001:db8::/129', /from 0 to 128/], ['2001:db8::/032', /from 0 to 128/], ['2001:db8::/x', /from 0 to 128/], ['::ffff:10.0.0.0/129', /from 0 to 128/],
    ['::ffff:10.0.0.0/8', /prefix length from 96 to 128/], ['::ffff:a00:0/95', /from 96 to 128/], ['fe80::1%eth0', /must not have a zone id/], ['fe80::%eth0/64', /zone id/], ['::ffff:10.0.0.1%eth0', /zone id/],
    ['10.0.0.1-', /must be an IPv4/], ['-10.0.0.1', /must be an IPv4/], ['10.0.0.1-9', /must be an IPv4/], ['10.0.0.1 - 10.0.0.9', /must be an IPv4/], ['10.0.0.0/8-11.0.0.0/8', /prefix length/], ['10.0.0.1-10.0.0.2-10.0.0.3', /must be an IPv4/],
    ['10.0.0.9-10.0.0.1', /does not end before it starts/], ['2001:db8::1:0-2001:db8::ffff', /does not end before/], ['10.0.0.1-::1', /within one address family/], ['::fffe:0:0-::ffff:0:1', /within one/]
  ]
  for (const [entry, rule] of cases) {
    const expected = { name: 'OptionsError', code: 'ERR_GUARD_OPTIONS', option: 'entries[1]', message: rule }
    t.throws(() => createAddressSet(['10.0.0.1', entry as string], { allowRanges: true }), expected, JSON.stringify(entry))
    await t.rejects(buildAddressSet(['10.0.0.1', entry as string], { allowRanges: true }), expected)
  }
})

t.test('refuses a list that is no array, and calls it what the caller calls it', async (t) => {
  for (const list of [undefined, null, '10.0.0.0/8', { 0: '10.0.0.0/8', length: 1 }, new Set(['10.0.0.1'])]) {
    t.throws(() => createAddressSet(list as never, { name: 'allow' }), { option: 'allow', message: '@sallyport/ip-allowlist: option "allow" must be a list of entries' })
  }
  t.throws(() => createAddressSet(new Array<string>(2)), { code: 'ERR_GUARD_OPTIONS', option: 'entries[0]' })
  t.throws(() => createAddressSet(['::1', 'x'], { name: 'tenants.acme' }), { code: 'ERR_GUARD_OPTIONS', option: 'tenants.acme[1]' })
  t.throws(() => parseEntry('x'), { code: 'ERR_GUARD_OPTIONS', option: 'entry' })
})

t.test('takes ranges only where they are allowed', async (t) => {
  const entries = ['10.0.0.1-10.0.0.9']
  t.throws(() => createAddressSet(entries), { option: 'entries[0]', message: /allowRanges/ })
  t.equal(createAddressSet(entries, { allowRanges: true }).has('10.0.0.5'), true)
})

t.test('lets an entry cover a whole family only with allowAny', async (t) => {
  const cases: [entry: string, family: number, inside: string, outside: string][] = [
    ['0.0.0.0/0', 4, '203.0.113.9', '2001:db8::1'],
    ['203.0.113.9/0', 4, '1.2.3.4', '::1.2.3.4'],
    ['::ffff:0:0/96', 4, '203.0.113.9', '::fffe:1'],
    ['0.0.0.0-255.255.255.255', 4, '203.0.113.9', '::'],
    ['::/0', 6, '2001:db8::1', '203.0.113.9'],
    ['2001:db8::/0', 6, '::1', '::ffff:203.0.113.9'],
    ['::ffff:0:0/0', 6, '::1', '::ffff:203.0.113.9'],
    ['::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', 6, '::1', '::ffff:cb00:7109']
  ]
  for (const [entry, family, inside, outside] of cases) {
    t.throws(() => createAddressSet([entry], { allowRanges: true }), { option: 'entries[0]', message: new RegExp(`covers every IPv${family} address, which needs allowAny: true`) }, entry)
    const set = createAddressSet([entry], { allowAny: true, allowRanges: true })
    t.same([set.has(inside), set.has(outside)], [true, false], entry)
  }
  t.equal(createAddressSet(['::/1', '0.0.0.0/1']).size, 2)
})

t.test('clears host bits and reports each such network', async (t) => {
  const set = createAddressSet(['10.1.2.3/8', '10.0.0.0/8', '2001:DB8::1:2/64', '::ffff:192.0.2.9/124', '192.0.2.1/32', '192.0.2.1', '::ffff:0:0/95'])
  t.same(set.warnings, [
    { entry: '10.1.2.3/8', network: '10.0.0.0/8' },
    { entry: '2001:DB8::1:2/64', network: '2001:db8::/64' },
    { entry: '::ffff:192.0.2.9/124', network: '192.0.2.0/28' },
    { entry: '::ffff:0:0/95', network: '::fffe:0:0/95' }
  ])
  t.equal(set.warningCount, 4)
  t.equal(set.has('10.255.255.255'), true)
  t.equal(set.has('192.0.2.15'), true)
  const noisy = createAddressSet(Array.from({ length: 250 }, (_, index) => `10.0.${index}.1/24`))
  t.same([noisy.warnings.length, noisy.warningCount, noisy.warnings[99]], [100, 250, { entry: '10.0.99.1/24', network: '10.0.99.0/24' }])
})

t.test('answers false for what is no IP literal, whatever it covers', async (t) => {
  const set = createAddressSet(['0.0.0.0/0', '::/0'], { allowAny: true })
  for (const text of ['', 'unknown', '10.0.0.1:443', '[::1]', '010.0.0.1', '10.0.0.1/32', '10.0.0.1, 10.0.0.2', 'fe80::1%']) t.equal(set.has(text), false, text)
  t.equal(set.has(undefined as never), false)
})

t.test('makes a set of nothing from an empty list', async (t) => {
  for (const set of [createAddressSet([]), await buildAddressSet([])]) {
    t.same([set.size, set.warnings, set.has('0.0.0.0'), set.has('::')], [0, [], false, false])
  }
})

t.test('answers the same for text and for a parsed address', async (t) => {
  const set = createAddressSet(['10.0.0.0/8', '2001:db8::/32'])
  for (const text of ['10.9.9.9', '::ffff:10.9.9.9', '11.0.0.0', '2001:db8::5%1', '2001:db9::']) t.equal(set.hasParsed(parseAddress(text)!), set.has(text), text)
})

t.test('neither keeps nor changes the list of the caller', async (t) => {
  const entries = ['10.0.0.2', '10.0.0.1']
  const set = createAddressSet(entries)
  t.same(entries, ['10.0.0.2', '10.0.0.1'])
  entries[0] = '10.0.0.3'
  entries.length = 1
  t.same([set.has('10.0.0.2'), set.has('10.0.0.3'), set.size], [true, false, 2])
  t.equal(createAddressSet(Object.freeze(['10.0.0.1'])).has('10.0.0.1'), true)
  t.ok(Object.isFrozen(set) && Object.isFrozen(set.warnings))
})

t.test('builds the same set in slices', async (t) => {
  const entries = manyEntries(20_000)
  const whole = createAddressSet(entries)
  const building = buildAddressSet(entries)
  entries.fill('no address')
  const sliced = await building
  t.same([sliced.size, sliced.warnings, sliced.warningCount], [whole.size, whole.warnings, whole.warningCount])
  const listed = manyEntries(20_000)
  t.ok(listed.every((entry) => sliced.has(entry.replace('/28', ''))))
  const neighbours = listed.map((entry) => entry.includes(':') ? `${entry}0` : entry.replace(/\.\d+(\/28)?$/, '.77'))
  t.ok(neighbours.some((text) => !sliced.has(text)) && neighbours.every((text) => sliced.has(text) === whole.has(text)))
})

t.test('lets the event loop turn while a long list is built', async (t) => {
  const entries = manyEntries(200_000)
  const delay = monitorEventLoopDelay({ resolution: 1 })
  let turns = 0
  let isBuilding = true
  const count = () => { if (isBuilding) { turns++; setImmediate(count) } }
  delay.enable()
  count()
  const startedAt = performance.now()
  await buildAddressSet(entries)
  const tookMs = performance.now() - startedAt
  isBuilding = false
  delay.disable()
  t.ok(turns > 50, `${turns} turns in ${Math.round(tookMs)} ms`)
  t.ok(delay.max / 1e6 < Math.max(tookMs / 2, 200), `the longest turn took ${Math.round(delay.max / 1e6)} ms`)
})
