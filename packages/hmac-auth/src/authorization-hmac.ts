/** The profile of older gateways: `Authorization: hmac username=...` (Kong) and `Signature keyId=...` (APISIX, draft-cavage). */

import { hash } from 'node:crypto'
import type { OptionReader } from '@sallyport/guard'
import type { ContentDigest } from './content-digest.js'
import { invalid, refusal } from './errors.js'
import { decodeBytes, hasLine, isKeyId, signable, soleLine } from './field-lines.js'
import {
  cover, coversTarget, defineProfile, fieldName, floorOf, notesOnAlgorithms, profileReader, readAccepts, readAlgorithms,
  type Gap, type HmacAlgorithm, type Profile, type SignedMessage
} from './profile.js'
import type { FieldLines } from './signature-base.js'
import { formatTimestamp, parseTimestamp } from './timestamps.js'

export interface AuthorizationHmacOptions {
  /** Whose form it is: `kong` (`hmac username=...`), `apisix` or `cavage` (`Signature keyId=...`; they sign different strings). */
  readonly dialect: 'kong' | 'apisix' | 'cavage'
  /** What these forms leave out of the floor, each by its name: `no-nonce` always, `no-key-id` too but for `apisix`. */
  readonly accepts: readonly Gap[]
  /** The header that carries it. Default: `authorization`. */
  readonly header?: 'authorization' | 'proxy-authorization'
  /** The one source of the time, which must be signed: a header, or `(created)` with `cavage`. Default: `date`. */
  readonly timestamp?: 'date' | 'x-date' | '(created)'
  /** What clients may sign with; `hmac-sha1` only if it is named here. Default: `['hmac-sha256']`. */
  readonly algorithms?: readonly HmacAlgorithm[]
  /** Header fields that must be covered too, by name. */
  readonly covers?: readonly string[]
}

const optionNames = ['dialect', 'accepts', 'header', 'timestamp', 'algorithms', 'covers'] as const
const possibleGaps = ['no-method', 'no-authority', 'no-path', 'no-query', 'no-key-id', 'no-nonce', 'no-digest'] as const

/** More than any honest request lists; it bounds the work that one header can ask for. */
const MAX_COVERED = 64

/** What tells the three apart. */
interface Dialect {
  readonly scheme: 'hmac' | 'Signature'
  /** The parameter that holds the key id. */
  readonly keyId: 'username' | 'keyId'
  /** The name that stands for method, path and query in the list of what is covered. */
  readonly target: '@request-target' | '(request-target)'
  readonly always: readonly Gap[]
  /** One line of the string to sign for what is no header; `undefined` for what is. */
  readonly lineOf: (name: string, message: SignedMessage, parameters: AuthParameters) => string | undefined
  readonly join: (keyId: string, lines: readonly string[]) => string
}

type AuthParameters = ReadonlyMap<string, string>

const dialects: Readonly<Record<AuthorizationHmacOptions['dialect'], Dialect>> = {
  kong: {
    scheme: 'hmac', keyId: 'username', target: '@request-target', always: ['no-nonce', 'no-key-id'],
    lineOf (name, { method, target, httpVersion = '1.1' }) {
      if (name === 'request-line') return `${method} ${target} HTTP/${httpVersion}`
      return name === '@request-target' ? `@request-target: ${method.toLowerCase()} ${target}` : undefined
    },
    join: (_keyId, lines) => lines.join('\n')
  },
  apisix: {
    scheme: 'Signature', keyId: 'keyId', target: '@request-target', always: ['no-nonce'],
    lineOf: (name, { method, target }) => name === '@request-target' ? `${method} ${target}` : undefined,
    join: (keyId, lines) => `${[keyId, ...lines].join('\n')}\n`
  },
  cavage: {
    scheme: 'Signature', keyId: 'keyId', target: '(request-target)', always: ['no-nonce', 'no-key-id'],
    lineOf (name, { method, target }, parameters) {
      if (name === '(request-target)') return `(request-target): ${method.toLowerCase()} ${target}`
      if (name !== '(created)' && name !== '(expires)') return undefined
      const value = parameters.get(name.slice(1, -1))
      if (value === undefined) throw invalid('component-absent')
      return `${name}: ${value}`
    },
    join: (_keyId, lines) => lines.join('\n')
  }
}

/** What covering one name adds to the floor; the timestamp's is added where it is known which it is. */
const coverage: Readonly<Record<string, number>> = {
  '@request-target': coversTarget, 'request-line': coversTarget, '(request-target)': coversTarget, 'host': cover.authority, 'digest': cover.digest
}

/**
 * The forms that Kong's and APISIX's HMAC plugins and draft-cavage-http-signatures take, for moving away from them. None of
 * them has a nonce, so each signature is accepted once instead. `Digest: SHA-256=...` must be covered where there is a body.
 * Throws `OptionsError`.
 */
export function authorizationHmac (options: AuthorizationHmacOptions): Profile {
  const reader = profileReader('authorizationHmac', options, optionNames)
  const name = reader.oneOf('dialect', ['kong', 'apisix', 'cavage'])
  if (name === undefined) throw reader.error('dialect', 'is required: kong, apisix or cavage')
  const dialect = dialects[name]
  const { scheme, keyId: keyIdName, target } = dialect
  const accepts = readAccepts(reader, { always: dialect.always, possible: possibleGaps })
  const algorithms = readAlgorithms(reader)
  const header = reader.oneOf('header', ['authorization', 'proxy-authorization'], 'authorization')
  const timestamp = readTimestampSource(reader, name)
  const covers = (reader.texts('covers') ?? []).map((field) => fieldName(field, (rule) => reader.error('covers', rule)))
  const floor = floorOf(accepts)
  const ofDialect = (name === 'apisix' ? cover['key-id'] : 0)

  function lacksOf (names: readonly string[], hasBody: boolean): number {
    let covered = ofDialect | (names.includes(timestamp) ? cover.timestamp : 0) | (hasBody ? 0 : cover.digest)
    for (const listed of names) covered |= coverage[listed] ?? 0
    if (covers.every((field) => names.includes(field))) covered |= cover.header
    return floor & ~covered
  }

  function baseOf (message: SignedMessage, names: readonly string[], parameters: AuthParameters): string {
    const lines = names.map((listed) => {
      const lower = listed.toLowerCase()
      return dialect.lineOf(lower, message, parameters) ?? `${listed}: ${lower === 'host' ? message.authority : fieldOf(message.fieldLines, lower)}`
    })
    return signableLines(dialect.join(parameters.get(keyIdName)!, lines))
  }

  return defineProfile({
    name: `authorizationHmac (${name})`,
    credentials: [{ header, scheme }],
    scheme,
    challenge: { headers: [timestamp, target, 'host', 'digest', ...covers].join(' ') },
    algorithms,
    accepts,
    leastSecretBytes: 1,
    signsBody: false,
    notes: [...notesOnAlgorithms(algorithms), ...covers.map((field) => `covers ${field}`)],
    digest: { name: 'digest', format: (body) => `SHA-256=${hash('sha256', body, 'base64')}` },
    isPresented: (fieldLines) => hasLine(fieldLines, header, (value) => schemeOf(value) === scheme.toLowerCase()),
    read (message, hasBody) {
      const { fieldLines } = message
      const text = soleLine(fieldLines, header)!
      const parameters = parseParameters(text.slice(scheme.length), name === 'cavage')
      const [keyId, signature] = [keyIdName, 'signature'].map((parameter) => parameters.get(parameter))
      if (keyId === undefined || signature === undefined || !isKeyId(keyId)) throw invalid('signature-malformed')
      const mac = decodeBytes(signature, 'base64')
      if (mac === undefined) throw invalid('signature-malformed')
      const listed = namesOf(parameters.get('headers') ?? '')
      const names = listed.map((field) => field.toLowerCase())
      if (new Set(names).size < names.length) throw invalid('components')
      return {
        keyId,
        algorithm: algorithmOf(parameters.get('algorithm'), { algorithms, isOptional: name === 'cavage' }),
        datedAtMs: names.includes(timestamp) ? datedAt(timestamp, fieldLines, parameters) : NaN,
        expiresAtMs: parameters.has('expires') ? parseTimestamp(parameters.get('expires'), 'seconds') : undefined,
        nonce: undefined,
        mac,
        base: baseOf(message, listed, parameters),
        digest: names.includes('digest') ? parseDigest(fieldOf(fieldLines, 'digest')) : undefined,
        lacks: lacksOf(names, hasBody)
      }
    },
    write ({ fieldLines }, { keyId, algorithm, datedAtMs }, bytes) {
      const fields = ['digest', ...covers].filter((field) => hasLine(fieldLines, field))
      const created = timestamp === '(created)' ? `,created=${formatTimestamp(datedAtMs, 'seconds')}` : ''
      const parameters = `${keyIdName}="${keyId}",algorithm="${algorithm}",headers="${[timestamp, target, 'host', ...fields].join(' ')}"${created}`
      return {
        ...(created === '' && { [timestamp]: formatTimestamp(datedAtMs, 'http-date') }),
        [header]: `${scheme} ${parameters},signature="${Buffer.from(bytes).toString('base64')}"`
      }
    }
  })
}

function readTimestampSource (reader: OptionReader, dialect: string): string {
  const source = reader.oneOf('timestamp', ['date', 'x-date', '(created)'], 'date')
  if (source === '(created)' && dialect !== 'cavage') throw reader.error('timestamp', '"(created)" belongs to the dialect cavage')
  return source
}

function schemeOf (value: string): string {
  return value.trimStart().split(' ', 1)[0]!.toLowerCase()
}

const quotedParameter = /[ \t]*([A-Za-z]+)="([^"\\]*)"[ \t]*/y
const cavageParameter = /[ \t]*([A-Za-z]+)=(?:"([^"\\]*)"|(\d+))[ \t]*/y

/** Parameters of the credentials: quoted, joined by commas, each once. What is written in any other way is refused. */
function parseParameters (text: string, allowsNumbers: boolean): AuthParameters {
  const pattern = allowsNumbers ? cavageParameter : quotedParameter
  const parameters = new Map<string, string>()
  if (!text.startsWith(' ')) throw invalid('signature-malformed')
  for (let at = 1; ; at = pattern.lastIndex + 1) {
    pattern.lastIndex = at
    const [, name, quoted, number] = pattern.exec(text) ?? []
    if (name === undefined || !known.has(name) || parameters.has(name)) throw invalid('signature-malformed')
    if (number !== undefined && name !== 'created' && name !== 'expires') throw invalid('signature-malformed')
    parameters.set(name, quoted ?? number!)
    if (pattern.lastIndex === text.length) return parameters
    if (text[pattern.lastIndex] !== ',') throw invalid('signature-malformed')
  }
}

const known = new Set(['username', 'keyId', 'algorithm', 'headers', 'signature', 'created', 'expires'])

/** The list of what is covered, as the client spells it. */
function namesOf (text: string): readonly string[] {
  const names = text.split(' ').filter((name) => name !== '')
  if (names.length > MAX_COVERED) throw invalid('components')
  return names
}

function fieldOf (fieldLines: FieldLines, name: string): string {
  const value = soleLine(fieldLines, name, () => invalid('component-unusable'))
  if (value === undefined) throw invalid('component-absent')
  return value
}

function signableLines (base: string): string {
  for (const line of base.split('\n')) signable(line)
  return base
}

function datedAt (source: string, fieldLines: FieldLines, parameters: AuthParameters): number {
  return source === '(created)' ? parseTimestamp(parameters.get('created'), 'seconds') : parseTimestamp(soleLine(fieldLines, source), 'http-date')
}

/** `hs2019` means the key's own algorithm, and so does none (draft-cavage-http-signatures-12 section 2.1.3). */
function algorithmOf (named: string | undefined, { algorithms, isOptional }: { readonly algorithms: readonly HmacAlgorithm[], readonly isOptional: boolean }): HmacAlgorithm | undefined {
  if (isOptional && (named === undefined || named === 'hs2019')) return undefined
  const algorithm = algorithms.find((candidate) => candidate === named)
  if (algorithm === undefined) throw invalid('algorithm')
  return algorithm
}

/** `Digest: SHA-256=...` (RFC 3230, obsolete), and nothing beside it. */
function parseDigest (value: string): ContentDigest {
  const bytes = /^sha-256=/i.test(value) ? decodeBytes(value.slice('sha-256='.length), 'base64') : undefined
  if (bytes?.length !== 32) throw refusal('ERR_HMAC_AUTH_DIGEST_INVALID', { reason: 'digest-malformed' })
  return new Map([['sha-256', bytes]])
}
