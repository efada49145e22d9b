/** The profile of plain header schemes: key id, timestamp, nonce and signature in headers, and a string to sign made of parts. */

import { hash } from 'node:crypto'
import type { OptionReader } from '@sallyport/guard'
import { formatContentDigest, parseContentDigest, type ContentDigest } from './content-digest.js'
import { invalid, refusal } from './errors.js'
import { decodeBytes, hasLine, isKeyId, isNonce, signable, soleLine } from './field-lines.js'
import { formatTimestamp, parseTimestamp, timestampFormats, type TimestampFormat } from './timestamps.js'
import {
  cover, defineProfile, fieldName, floorOf, gaps, notesOnAlgorithms, profileReader, readAccepts, readFieldName, hmacAlgorithms,
  type BaseAroundBody, type DigestHeader, type Gap, type HmacAlgorithm, type Profile, type SignedMessage
} from './profile.js'
import { derivedValue, type FieldLines } from './signature-base.js'

/**
 * One part of the string to sign. `path` and `query` are as in the request line (the query without its `?`, empty where there
 * is none), `target` is both with the `?` between them; `authority` is host and port in lower case, without the default port.
 * `body-sha256` is the digest of the body, in `encoding`, or the value of the `digest` header. `header:name` is a header's one
 * line, empty where there is none; `text:v0` is what stands behind the colon.
 */
export type Part = 'method' | 'authority' | 'path' | 'query' | 'target' | 'timestamp' | 'key-id' | 'nonce' | 'body' | 'body-sha256' | `header:${string}` | `text:${string}`

export interface HeaderSchemeOptions {
  /** The header that names the key. Default: `x-key-id`. */
  readonly keyId?: string
  /** The header that says when the request was signed. Default: `x-timestamp`. */
  readonly timestamp?: string
  /** How: `seconds` or `milliseconds` since the epoch, `http-date`, `iso-8601`. Default: `seconds`. */
  readonly timestampFormat?: TimestampFormat
  /** The header that makes the request unique; `false` where the scheme has none, which needs `accepts: ['no-nonce']`. Default: `x-nonce`. */
  readonly nonce?: string | false
  /** The header that holds the signature. Default: `x-signature`. */
  readonly signature?: string
  /** What stands before the signature, such as `sha256=`. Default: nothing. */
  readonly prefix?: string
  /** How signature and digest are written. Default: `hex`. */
  readonly encoding?: 'hex' | 'base64'
  /**
   * The header that carries the body's SHA-256: `content-digest` as RFC 9530 has it, any other in `encoding`; `false` where
   * the scheme has none, so that `body` or `body-sha256` can be judged only once the body has been read. Default: `content-digest`.
   */
  readonly digest?: string | false
  /** What is signed, in this order. Default: method, authority, path, query, timestamp, key id, nonce and the body's digest. */
  readonly parts?: readonly Part[]
  /** What stands between the parts. Default: a line feed, which no part but the body can hold. */
  readonly separator?: string
  /** Default: `hmac-sha256`. */
  readonly algorithm?: HmacAlgorithm
  /** What this scheme leaves out of the floor, each by its name. Default: nothing. */
  readonly accepts?: readonly Gap[]
}

/**
 * The words of the layered gateway: timestamp, nonce and HMAC-SHA256 signature in headers, over the request's data and those
 * headers. `headers(layeredGateway)`, or with changes: `headers({ ...layeredGateway, signature: 'x-hmac' })`.
 */
export const layeredGateway: HeaderSchemeOptions = Object.freeze({
  keyId: 'x-api-key',
  timestamp: 'x-timestamp',
  nonce: 'x-nonce',
  signature: 'x-signature',
  digest: 'x-content-sha256',
  parts: Object.freeze(['method', 'authority', 'path', 'query', 'timestamp', 'nonce', 'key-id', 'body-sha256'] as const)
})

const optionNames = ['keyId', 'timestamp', 'timestampFormat', 'nonce', 'signature', 'prefix', 'encoding', 'digest', 'parts', 'separator', 'algorithm', 'accepts'] as const
const plainParts = ['method', 'authority', 'path', 'query', 'target', 'timestamp', 'key-id', 'nonce', 'body', 'body-sha256'] as const
const defaultParts: readonly Part[] = ['method', 'authority', 'path', 'query', 'timestamp', 'key-id', 'nonce', 'body-sha256']

/** What a part covers of the floor. */
const coverage: Readonly<Record<string, number>> = {
  'method': cover.method, 'authority': cover.authority, 'path': cover.path, 'query': cover.query, 'target': cover.path | cover.query,
  'timestamp': cover.timestamp, 'key-id': cover['key-id'], 'nonce': cover.nonce, 'body': cover.digest, 'body-sha256': cover.digest
}

/** Values of the headers that belong to the signature, as they stand. */
interface Presented {
  readonly keyId: string
  readonly timestamp: string
  readonly nonce: string
  readonly digest: string
}

type PartReader = (message: SignedMessage, presented: Presented) => string

const partReaders: Readonly<Partial<Record<Part, PartReader>>> = {
  'method': (message) => derivedValue('@method', message),
  'authority': (message) => derivedValue('@authority', message),
  'path': (message) => derivedValue('@path', message),
  'query': (message) => derivedValue('@query', message).slice(1),
  'target': (message) => derivedValue('@request-target', message),
  'timestamp': (_message, { timestamp }) => timestamp,
  'key-id': (_message, { keyId }) => keyId,
  'nonce': (_message, { nonce }) => nonce,
  'body-sha256': (_message, { digest }) => digest
}

/** The scheme, checked: what both verifier and client need of it. */
interface Scheme {
  readonly keyId: string
  readonly timestamp: string
  readonly timestampFormat: TimestampFormat
  readonly nonce: string | undefined
  readonly signature: string
  readonly prefix: string
  readonly encoding: 'hex' | 'base64'
  readonly digest: string | undefined
  readonly separator: string
  readonly parts: readonly Part[]
  readonly accepts: readonly Gap[]
}

/** A plain header scheme. Its parts must cover the floor, or `accepts` names what they leave out. Throws `OptionsError`. */
export function headers (options: HeaderSchemeOptions = {}): Profile {
  const reader = profileReader('headers', options, optionNames)
  const algorithm = reader.oneOf('algorithm', hmacAlgorithms, 'hmac-sha256')
  const scheme = readScheme(reader)
  const { keyId, timestamp, nonce, signature, prefix, encoding, digest, timestampFormat } = scheme
  const floor = floorOf(scheme.accepts)
  const coversBody = scheme.parts.some((part) => part === 'body' || part === 'body-sha256')
  const baseOf = createBase(scheme)
  const own = [keyId, timestamp, signature, ...(nonce === undefined ? [] : [nonce])]
  const digestOf = digest === undefined ? undefined : digestHeader(digest, encoding)

  return defineProfile({
    name: 'headers',
    credentials: own.map((header) => ({ header })),
    scheme: 'HMAC',
    challenge: { header: signature, algorithm },
    algorithms: [algorithm],
    accepts: scheme.accepts,
    leastSecretBytes: 16,
    signsBody: coversBody && digest === undefined,
    notes: notesOnAlgorithms([algorithm]),
    digest: digestOf,
    isPresented: (fieldLines) => own.some((name) => hasLine(fieldLines, name)),
    read (message, hasBody) {
      const { fieldLines } = message
      const text = required(fieldLines, signature)
      const mac = text.startsWith(prefix) ? decodeBytes(text.slice(prefix.length), encoding) : undefined
      if (mac === undefined) throw invalid('signature-malformed')
      const stated = digest === undefined ? undefined : soleLine(fieldLines, digest)
      const presented = { keyId: required(fieldLines, keyId), timestamp: required(fieldLines, timestamp), nonce: nonce === undefined ? '' : required(fieldLines, nonce), digest: stated ?? '' }
      if (!isKeyId(presented.keyId) || (nonce !== undefined && !isNonce(presented.nonce))) throw invalid('signature-malformed')
      return {
        keyId: presented.keyId,
        algorithm: undefined,
        datedAtMs: parseTimestamp(presented.timestamp, timestampFormat),
        nonce: nonce === undefined ? undefined : presented.nonce,
        mac,
        base: baseOf(message, presented, hasBody),
        digest: stated === undefined || !coversBody ? undefined : digestOf!.parse(stated),
        lacks: hasBody && (!coversBody || (digest !== undefined && stated === undefined)) ? floor & cover.digest : 0
      }
    },
    write (_message, facts, bytes) {
      return {
        [keyId]: facts.keyId,
        [timestamp]: formatTimestamp(facts.datedAtMs, timestampFormat),
        ...(nonce !== undefined && { [nonce]: facts.nonce }),
        [signature]: prefix + Buffer.from(bytes).toString(encoding)
      }
    }
  })
}

function required (fieldLines: FieldLines, name: string): string {
  const value = soleLine(fieldLines, name)
  if (value === undefined) throw invalid('signature-incomplete')
  return signable(value)
}

/** Makes the string to sign; around the body, where the MAC goes over that and there is one. */
function createBase ({ parts, separator, digest, encoding, accepts }: Scheme): (message: SignedMessage, presented: Presented, hasBody: boolean) => string | BaseAroundBody {
  const bodyAt = digest === undefined ? parts.findIndex((part) => part === 'body' || part === 'body-sha256') : -1
  const isWhole = parts[bodyAt] === 'body'
  const ofEmptyBody = isWhole ? '' : hash('sha256', '', encoding)
  // One place may hold the separator and all can still be told apart: that of the body, else of the target.
  const free = bodyAt >= 0 && isWhole ? bodyAt : parts.findIndex((part) => part === 'target' || part === 'path')
  const canHold = separator !== '\n' && !accepts.includes('ambiguous-parts')
  const readers = parts.map((part) => partReaders[part] ?? readerOf(part))

  const values = (message: SignedMessage, presented: Presented, from: number, to: number): string => {
    let text = ''
    for (let i = from; i < to; i++) {
      const value = readers[i]!(message, presented)
      if (canHold && i !== free && value.includes(separator)) throw invalid('parts-ambiguous')
      text += i === from ? value : separator + value
    }
    return text
  }

  return function baseOf (message, presented, hasBody) {
    if (bodyAt < 0) return values(message, presented, 0, parts.length)
    const before = bodyAt === 0 ? '' : values(message, presented, 0, bodyAt) + separator
    const after = bodyAt === parts.length - 1 ? '' : separator + values(message, presented, bodyAt + 1, parts.length)
    return hasBody ? { before, body: isWhole ? 'bytes' : encoding, after } : before + ofEmptyBody + after
  }
}

function readerOf (part: Part): PartReader {
  if (part === 'body') return () => ''
  const text = part.slice(part.indexOf(':') + 1)
  if (part.startsWith('text:')) return () => text
  return ({ fieldLines }) => {
    const value = soleLine(fieldLines, text, unusable)
    // Empty means absent, so a header that is there and empty would have the same signature.
    if (value === '') throw unusable()
    return value === undefined ? '' : signable(value)
  }
}

function unusable () {
  return invalid('component-unusable')
}

function digestHeader (name: string, encoding: 'hex' | 'base64'): DigestHeader & { readonly parse: (value: string) => ContentDigest } {
  if (name === 'content-digest') return { name, format: (body) => formatContentDigest(body), parse: parseContentDigest }
  return {
    name,
    format: (body) => hash('sha256', body, encoding),
    parse (value) {
      const bytes = decodeBytes(value, encoding)
      if (bytes?.length !== 32) throw refusal('ERR_HMAC_AUTH_DIGEST_INVALID', { reason: 'digest-malformed' })
      return new Map([['sha-256', bytes]])
    }
  }
}

function readScheme (reader: OptionReader): Scheme {
  const nonce = reader.raw('nonce') === false ? undefined : readFieldName(reader, 'nonce', 'x-nonce')
  const digest = reader.raw('digest') === false ? undefined : readFieldName(reader, 'digest', 'content-digest')
  const accepts = readAccepts(reader)
  const separator = reader.raw('separator') ?? '\n'
  if (typeof separator !== 'string' || !/^[\n\x20-\x7e]*$/.test(separator)) throw reader.error('separator', 'must be printable ASCII or line feeds')
  if (separator === '' && !accepts.includes('ambiguous-parts')) throw reader.error('separator', 'must not be empty: the parts could not be told apart; accepts: [\'ambiguous-parts\'] says that this is known')
  const names = {
    keyId: readFieldName(reader, 'keyId', 'x-key-id'),
    timestamp: readFieldName(reader, 'timestamp', 'x-timestamp'),
    signature: readFieldName(reader, 'signature', 'x-signature')
  }
  const all = [...Object.values(names), nonce, digest].filter((name) => name !== undefined)
  if (new Set(all).size !== all.length) throw reader.error('signature', 'and the other headers must be different ones')
  const parts = readParts(reader, { accepts, hasNonce: nonce !== undefined, hasDigest: digest !== undefined })
  return {
    ...names, nonce, digest, separator, parts, accepts,
    timestampFormat: reader.oneOf('timestampFormat', timestampFormats, 'seconds'),
    encoding: reader.oneOf('encoding', ['hex', 'base64'], 'hex'),
    prefix: reader.text('prefix') ?? ''
  }
}

interface PartRules { readonly accepts: readonly Gap[], readonly hasNonce: boolean, readonly hasDigest: boolean }

function readParts (reader: OptionReader, { accepts, hasNonce, hasDigest }: PartRules): readonly Part[] {
  const given = (reader.texts('parts') ?? defaultParts.filter((part) => hasNonce || part !== 'nonce')) as readonly Part[]
  const parts = given.map((part) => {
    if ((plainParts as readonly string[]).includes(part) || /^text:[\x20-\x7e]+$/.test(part)) return part
    if (!part.startsWith('header:')) throw reader.error('parts', `knows ${plainParts.join(', ')}, header:<name>, text:<text>; not "${part}"`)
    return `header:${fieldName(part.slice('header:'.length), (rule) => reader.error('parts', `"${part}" ${rule}`))}` as const
  })
  if (parts.includes('nonce') && !hasNonce) throw reader.error('parts', 'has a nonce, but "nonce" names no header for it')
  if (parts.includes('body') && parts.includes('body-sha256')) throw reader.error('parts', 'must not hold both body and body-sha256')
  if (parts.includes('body') && hasDigest) throw reader.error('parts', 'holds the body itself: set "digest" to false, or sign body-sha256')
  const covered = parts.reduce((set, part) => set | (coverage[part] ?? 0), 0)
  for (const [name, bit] of Object.entries(cover)) {
    if (bit === cover.header || (covered & bit) !== 0) continue
    if (bit === cover.timestamp) throw reader.error('parts', 'must hold the timestamp')
    const gap = gaps.find((candidate) => candidate === `no-${name}`)!
    if (!accepts.includes(gap)) throw reader.error('parts', `leave out the ${name}; accepts: ['${gap}'] says that this is meant`)
  }
  return Object.freeze(parts)
}
