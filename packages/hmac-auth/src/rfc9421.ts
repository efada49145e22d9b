/** The profile of the standard: HTTP Message Signatures (RFC 9421) with `Content-Digest` (RFC 9530). */

import type { OptionReader } from '@sallyport/guard'
import { formatContentDigest, parseContentDigest } from './content-digest.js'
import { invalid, refusal } from './errors.js'
import { hasLine, isKeyId, isNonce, joinedLines } from './field-lines.js'
import {
  cover, defineProfile, fieldName, floorOf, notesOnAlgorithms, profileReader, readAccepts, readAlgorithms, type Gap, type HmacAlgorithm, type Profile
} from './profile.js'
import { buildSignatureBase, hasComponent, readSignatureInput, type Component, type FieldType, type FieldTypes, type SignatureInput } from './signature-base.js'
import { parseDictionary, type Dictionary, type Parameters } from './structured-fields.js'

export interface Rfc9421Options {
  /** The signature to judge where a request carries several. Default: there must be exactly one. Clients sign as this, or as `sig1`. */
  readonly label?: string
  /** The application that signatures must be for: their `tag` parameter (RFC 9421 section 2.3). Default: any. */
  readonly tag?: string
  /** What clients may sign with. Default: `['hmac-sha256']`. */
  readonly algorithms?: readonly HmacAlgorithm[]
  /** Header fields that must be covered too, by name. */
  readonly covers?: readonly string[]
  /** Types of structured fields, by name, that clients may cover with the parameter `sf`. Default: none. */
  readonly fieldTypes?: Readonly<Record<string, FieldType>>
  /** What signatures may leave out of the floor, each by its name. Default: nothing. */
  readonly accepts?: readonly Gap[]
}

const optionNames = ['label', 'tag', 'algorithms', 'covers', 'fieldTypes', 'accepts'] as const
const possibleGaps = ['no-method', 'no-authority', 'no-path', 'no-query', 'no-nonce', 'no-digest'] as const

/** What covering one component adds to the floor. */
const coverage: ReadonlyMap<string, number> = new Map([
  ['"@method"', cover.method], ['"@authority"', cover.authority], ['"@path"', cover.path], ['"@query"', cover.query],
  ['"@request-target"', cover.path | cover.query], ['"@target-uri"', cover.authority | cover.path | cover.query], ['"content-digest"', cover.digest]
])

/**
 * Signatures as RFC 9421 has them. Covered must be `@method`, `@authority`, `@path`, `@query` (or `@target-uri`,
 * `@request-target` in their place), `content-digest` where there is a body, and the parameters `created`, `keyid`, `nonce`.
 * Throws `OptionsError`.
 */
export function rfc9421 (options: Rfc9421Options = {}): Profile {
  const reader = profileReader('rfc9421', options, optionNames)
  const algorithms = readAlgorithms(reader)
  const accepts = readAccepts(reader, { possible: possibleGaps })
  const floor = floorOf(accepts)
  const covers = (reader.texts('covers') ?? []).map((name) => fieldName(name, (rule) => reader.error('covers', rule)))
  const wanted = covers.map((name) => `"${name}"`)
  const label = reader.text('label')
  if (label !== undefined && !/^[a-z*][a-z0-9_.*-]*$/.test(label)) throw reader.error('label', 'must be a key of a dictionary (RFC 9651 section 3.2)')
  const fieldTypes = readFieldTypes(reader)
  const tag = reader.text('tag')
  if (tag !== undefined && !isKeyId(tag)) throw reader.error('tag', 'must be visible ASCII characters, without quotes, commas and backslashes')

  function lacksOf ({ components, parameters }: SignatureInput, hasBody: boolean): number {
    let covered = cover['key-id'] | (parameters.has('created') ? cover.timestamp : 0) | (parameters.has('nonce') ? cover.nonce : 0) | (hasBody ? 0 : cover.digest)
    for (let i = 0; i < components.length; i++) covered |= coverage.get(components[i]!.identifier) ?? 0
    if (wanted.length === 0 || coversAll(components, wanted)) covered |= cover.header
    return floor & ~covered
  }

  return defineProfile({
    name: 'rfc9421',
    credentials: [{ header: 'signature-input' }, { header: 'signature' }],
    scheme: 'Signature',
    challenge: { covers: ['@method', '@authority', '@path', '@query', 'content-digest', ...covers].join(' ') },
    algorithms,
    accepts,
    leastSecretBytes: 16,
    signsBody: false,
    notes: [...notesOnAlgorithms(algorithms), ...covers.map((name) => `covers ${name}`)],
    digest: { name: 'content-digest', format: (body) => formatContentDigest(body) },
    isPresented: (fieldLines) => hasLine(fieldLines, 'signature-input') || hasLine(fieldLines, 'signature'),
    read (message, hasBody) {
      const { fieldLines } = message
      const inputs = dictionaryOf(joinedLines(fieldLines, 'signature-input'))
      const text = joinedLines(fieldLines, 'signature')
      const signatures = dictionaryOf(text)
      const chosen = label ?? soleLabel(inputs, signatures)
      const input = readSignatureInput(inputs.get(chosen))
      const mac = signatures.get(chosen)
      // Structured fields bear spare bits and missing padding; a signature has one spelling.
      if (mac?.type !== 'bytes' || !text!.includes(`:${base64(mac.value)}:`)) throw invalid('signature-malformed')
      const { parameters } = input
      if (tag !== undefined && textOf(parameters, 'tag') !== tag) throw invalid('tag')
      const covered = hasComponent(input, '"content-digest"')
      return {
        keyId: keyIdOf(parameters),
        algorithm: algorithmOf(parameters, algorithms),
        datedAtMs: msOf(parameters, 'created') ?? NaN,
        expiresAtMs: msOf(parameters, 'expires'),
        nonce: nonceOf(parameters),
        mac: mac.value,
        base: buildSignatureBase(input, message, fieldTypes),
        digest: covered ? parseContentDigest(joinedLines(fieldLines, 'content-digest')!) : undefined,
        lacks: lacksOf(input, hasBody)
      }
    },
    write (message, { keyId, algorithm, datedAtMs, nonce }, mac) {
      const fields = ['content-digest', ...covers].filter((name) => hasLine(message.fieldLines, name))
      const covered = ['@method', '@authority', '@path', '@query', ...fields].map((name) => `"${name}"`).join(' ')
      const parameters = `;created=${Math.floor(datedAtMs / 1000)};keyid="${keyId}";nonce="${nonce}";alg="${algorithm}"${tag === undefined ? '' : `;tag="${tag}"`}`
      const name = label ?? 'sig1'
      return { 'signature-input': `${name}=(${covered})${parameters}`, 'signature': `${name}=:${base64(mac)}:` }
    }
  })
}

function coversAll (components: readonly Component[], wanted: readonly string[]): boolean {
  return wanted.every((identifier) => components.some((component) => component.identifier === identifier))
}

function base64 (bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64')
}

function readFieldTypes (reader: OptionReader): FieldTypes {
  if (!reader.has('fieldTypes')) return new Map()
  const names = Object.keys(reader.raw('fieldTypes') ?? {})
  const types = reader.nested('fieldTypes', names)
  return new Map(names.map((name) => [
    fieldName(name, (rule) => types.error(name, rule)),
    types.oneOf(name, ['dictionary', 'item', 'list']) ?? 'item'
  ]))
}

/** A label that comes twice is refused: two verifiers could take different ones. */
function dictionaryOf (value: string | undefined): Dictionary {
  if (value === undefined) throw invalid('signature-incomplete')
  return parseDictionary(value, { repeatedKeys: 'refuse' })
}

function soleLabel (inputs: Dictionary, signatures: Dictionary): string {
  if (inputs.size > 1 || signatures.size > 1) throw refusal('ERR_HMAC_AUTH_SIGNATURE_AMBIGUOUS', { reason: 'signature-several' })
  const [only] = inputs.keys()
  if (only === undefined) throw invalid('signature-malformed')
  return only
}

function textOf (parameters: Parameters, name: string): string | undefined {
  const found = parameters.get(name)
  if (found !== undefined && found.type !== 'string') throw invalid('signature-malformed')
  return found?.value
}

function msOf (parameters: Parameters, name: string): number | undefined {
  const found = parameters.get(name)
  if (found === undefined) return undefined
  if (found.type !== 'integer' || found.value < 0) throw invalid('timestamp-malformed')
  return found.value * 1000
}

function keyIdOf (parameters: Parameters): string {
  const keyId = textOf(parameters, 'keyid')
  if (keyId === undefined) throw refusal('ERR_HMAC_AUTH_COVERAGE_INSUFFICIENT', { reason: 'not-covered-key-id' })
  if (!isKeyId(keyId)) throw invalid('signature-malformed')
  return keyId
}

function nonceOf (parameters: Parameters): string | undefined {
  const nonce = textOf(parameters, 'nonce')
  if (nonce !== undefined && !isNonce(nonce)) throw invalid('signature-malformed')
  return nonce
}

function algorithmOf (parameters: Parameters, algorithms: readonly HmacAlgorithm[]): HmacAlgorithm | undefined {
  const named = textOf(parameters, 'alg')
  if (named === undefined) return undefined
  const algorithm = algorithms.find((candidate) => candidate === named)
  if (algorithm === undefined) throw invalid('algorithm')
  return algorithm
}
