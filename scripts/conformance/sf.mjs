/** sf.json: structured fields, from text to values and from values to text. */

import { isDeepStrictEqual } from 'node:util'
import { isAuthError } from '@sallyport/guard'
import { Tally } from './tally.mjs'

/** Runs every vector against the parser and the serialiser of hmac-auth. */
export async function runSf ({ vectors }, fields) {
  const kinds = {
    item: { parse: fields.parseItem, serialize: fields.serializeItem, read: readItem, write: writeItem },
    list: { parse: fields.parseList, serialize: fields.serializeList, read: (members) => members.map(readMember), write: (members) => members.map(writeMember) },
    dictionary: {
      parse: fields.parseDictionary,
      serialize: fields.serializeDictionary,
      read: (entries) => new Map(entries.map(([key, member]) => [key, readMember(member)])),
      write: (members) => Array.from(members, ([key, member]) => [key, writeMember(member)])
    }
  }
  const tally = new Tally('sf.json')
  for (const vector of vectors) {
    await tally.attempt(vector, () => {
      const kind = kinds[vector.header_type]
      const problem = vector.kind === 'parse' ? parsing(vector, kind) : serialising(vector, kind)
      tally.judge(vector, problem === undefined, `${vector.name}: ${problem}`)
    })
  }
  return tally
}

function parsing ({ raw, expected, canonical = raw, must_fail: mustFail = false, can_fail: canFail = false }, { parse, serialize, write }) {
  const parsed = attempt(() => parse(raw.join(', ')))
  if (parsed.refused) return mustFail || canFail ? undefined : 'was refused'
  if (mustFail) return 'was not refused'
  if (!isDeepStrictEqual(write(parsed.value), expected)) return `gave ${JSON.stringify(write(parsed.value))}`
  const text = serialize(parsed.value)
  return text === canonical.join(', ') ? undefined : `serialises as ${text}`
}

function serialising ({ expected, canonical, must_fail: mustFail = false }, { serialize, read }) {
  const serialised = attempt(() => serialize(read(expected)))
  if (serialised.refused) return mustFail ? undefined : 'was refused'
  if (mustFail) return 'was not refused'
  return serialised.value === canonical.join(', ') ? undefined : `gave ${serialised.value}`
}

/** Anything thrown that is no refusal fails the vector. */
function attempt (work) {
  try {
    return { refused: false, value: work() }
  } catch (error) {
    if (!isAuthError(error)) throw error
    return { refused: true }
  }
}

/** The corpus writes types that JSON lacks as `{ __type, value }`, with bytes in base32. */
const typeNames = { token: 'token', date: 'date', displaystring: 'display-string' }

function writeMember (member) {
  return member.type === 'inner-list' ? [member.items.map(writeItem), writeParameters(member.parameters)] : writeItem(member)
}

function writeItem (item) {
  return [writeBare(item), writeParameters(item.parameters)]
}

function writeParameters (parameters) {
  return Array.from(parameters, ([key, bare]) => [key, writeBare(bare)])
}

function writeBare ({ type, value }) {
  if (type === 'bytes') return { __type: 'binary', value: base32(value) }
  const name = Object.keys(typeNames).find((name) => typeNames[name] === type)
  return name === undefined ? value : { __type: name, value }
}

function readMember (member) {
  return Array.isArray(member[0]) ? { type: 'inner-list', items: member[0].map(readItem), parameters: readParameters(member[1]) } : readItem(member)
}

function readItem ([bare, parameters]) {
  return { ...readBare(bare), parameters: readParameters(parameters) }
}

function readParameters (parameters) {
  return new Map(parameters.map(([key, bare]) => [key, readBare(bare)]))
}

function readBare (bare) {
  if (typeof bare === 'object') return { type: typeNames[bare.__type], value: bare.value }
  if (typeof bare === 'number') return { type: Number.isInteger(bare) ? 'integer' : 'decimal', value: bare }
  return { type: typeof bare, value: bare }
}

/** RFC 4648 section 6. */
function base32 (bytes) {
  const bits = Array.from(bytes, (byte) => byte.toString(2).padStart(8, '0')).join('')
  const groups = bits.match(/.{1,5}/g) ?? []
  const text = groups.map((group) => 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'[parseInt(group.padEnd(5, '0'), 2)]).join('')
  return text.padEnd(Math.ceil(text.length / 8) * 8, '=')
}
