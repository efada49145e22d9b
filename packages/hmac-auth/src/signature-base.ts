/**
 * The signature base (RFC 9421 section 2.5): the text that is signed, made of the covered components of a message.
 *
 * A component that is absent, or whose value could be read in two ways, is refused; a base never says less than was asked for.
 */

import { invalid } from './errors.js'
import { serializeDictionary, serializeItem, serializeList, serializeMember, serializeParameters } from './serialize-fields.js'
import { parseDictionary, parseItem, parseList, type Dictionary, type InnerList, type Item, type Member, type Parameters } from './structured-fields.js'

/** Lines of fields as they came, names and values in turn: what Node calls `rawHeaders`. */
export type FieldLines = readonly string[]

/** A request as it stands on the wire. */
export interface RequestMessage {
  /** Its case counts. */
  readonly method: string
  /** The request target, byte for byte: `/orders?page=2`. Nothing of it is decoded, encoded or sorted. */
  readonly target: string
  readonly scheme: string
  /** Host and, if there is one, port. */
  readonly authority: string
  readonly fieldLines: FieldLines
  /** Known only when the body has been read. */
  readonly trailerLines?: FieldLines | undefined
}

/** A response as it stands on the wire. */
export interface ResponseMessage {
  readonly status: number
  readonly fieldLines: FieldLines
  readonly trailerLines?: FieldLines | undefined
  /** The request that it answers; without it, nothing of that can be covered. */
  readonly request?: RequestMessage | undefined
}

export type Message = RequestMessage | ResponseMessage

export type FieldType = 'dictionary' | 'item' | 'list'

/** Types of structured fields, by lower-case name; a field that is not named here can't be covered with `;sf`. */
export type FieldTypes = ReadonlyMap<string, FieldType>

/** One covered component (RFC 9421 section 2). */
export interface Component {
  /** Name and parameters as they stand in the base: `"@method"`, `"example";key="a"`. */
  readonly identifier: string
  readonly name: string
  readonly parameters: Parameters
}

/** What a signature says of itself: one member of `Signature-Input` (RFC 9421 section 4.1). */
export interface SignatureInput {
  readonly components: readonly Component[]
  /** `created`, `keyid`, `nonce` and so on; nothing is known of their types yet. */
  readonly parameters: Parameters
  /** The canonical text, which is the value of `@signature-params` too. */
  readonly text: string
}

/** More than any honest signature covers; it bounds the work that one header can ask for. */
const maxComponents = 64

const noTypes: FieldTypes = new Map()
const fieldParameters = new Map([['sf', 'boolean'], ['key', 'string'], ['bs', 'boolean'], ['tr', 'boolean'], ['req', 'boolean']])
const derivedParameters = new Map([['req', 'boolean']])
const queryParameters = new Map([['name', 'string'], ['req', 'boolean']])
const derivedComponents = new Set(['@method', '@target-uri', '@authority', '@scheme', '@request-target', '@path', '@query', '@query-param', '@status'])

const fieldName = /^[a-z0-9!#$%&'*+.^_`|~-]+$/
const fieldValue = /^[\t\x20-\x7e]*$/
const wordText = /^[\x21-\x7e]+$/
const authorityText = /^(?:[\w.~!$&'()*+,;=%-]+|\[[\dA-Fa-f:.]+\])(?::\d*)?$/
const absoluteTarget = /^([A-Za-z][A-Za-z\d+.-]*):\/\/([^/?#]*)(.*)$/
const defaultPorts: Readonly<Record<string, string>> = { http: ':80', https: ':443' }

/**
 * Reads one member of `Signature-Input`, or one that a signer has put together.
 * @throws AuthError `ERR_HMAC_AUTH_SIGNATURE_INVALID` if it is no inner list of component identifiers, if one of them is not
 * known, has parameters that it can't have, or comes twice
 */
export function readSignatureInput (member: Member | undefined): SignatureInput {
  if (member?.type !== 'inner-list') throw invalid('components')
  const { items, parameters, written } = member
  let covered = coveredBy.get(items)
  if (covered === undefined) {
    covered = readComponents(items)
    // A list that nobody can change is one that the parser remembers.
    if (Object.isFrozen(items)) coveredBy.set(items, covered)
  }
  return { components: covered.components, parameters, text: covered.text + textOf(parameters, written) }
}

/** Whoever puts other parameters into a list that was read has them written. */
function textOf (parameters: Parameters, written: InnerList['written']): string {
  return written?.parameters === parameters ? written.text : serializeParameters(parameters)
}

interface Covered { readonly components: readonly Component[], readonly text: string }

const coveredBy = new WeakMap<readonly Item[], Covered>()

function readComponents (items: readonly Item[]): Covered {
  if (items.length > maxComponents) throw invalid('components')
  const components = items.map(readComponent)
  if (new Set(components.map(comparable)).size < components.length) throw invalid('components')
  return { components, text: `(${components.map(({ identifier }) => identifier).join(' ')})` }
}

/** True if a component is covered, written exactly so: `hasComponent(input, '"@method"')`. */
export function hasComponent ({ components }: SignatureInput, identifier: string): boolean {
  return components.some((component) => component.identifier === identifier)
}

/**
 * Makes the signature base.
 * @throws AuthError `ERR_HMAC_AUTH_SIGNATURE_INVALID` if a component is absent, repeated where it must be single, or can't
 * stand in a base
 */
export function buildSignatureBase (input: SignatureInput, message: Message, fieldTypes: FieldTypes = noTypes): string {
  const values = new ComponentValues(message, fieldTypes)
  let base = ''
  for (const component of input.components) base += `${component.identifier}: ${values.of(component)}\n`
  return `${base}"@signature-params": ${input.text}`
}

function readComponent (item: Item): Component {
  if (item.type !== 'string') throw invalid('components')
  const { value: name, parameters } = item
  const isDerived = name.startsWith('@')
  if (isDerived ? !derivedComponents.has(name) : !fieldName.test(name)) throw invalid('component-unknown')
  if (parameters.size > 0) checkParameters(name, parameters)
  else if (name === '@query-param') throw invalid('component-unknown')
  return { identifier: parameters.size > 0 ? serializeItem(item) : `"${name}"`, name, parameters }
}

function checkParameters (name: string, parameters: Parameters): void {
  const isQueryParameter = name === '@query-param'
  const possible = isQueryParameter ? queryParameters : name.startsWith('@') ? derivedParameters : fieldParameters
  for (const [key, { type, value }] of parameters) {
    if (possible.get(key) !== type || value === false) throw invalid('component-unknown')
  }
  if (isQueryParameter && !parameters.has('name')) throw invalid('component-unknown')
  if (parameters.has('bs') && (parameters.has('sf') || parameters.has('key'))) throw invalid('component-unknown')
}

/** Two identifiers are the same whatever the order of their parameters (RFC 9421 section 2). */
function comparable ({ identifier, name, parameters }: Component): string {
  return parameters.size < 2 ? identifier : JSON.stringify([name, ...Array.from(parameters, ([key, { value }]) => [key, value]).sort()])
}

/** The values of one message's components. What many of them can ask for is read once, so that they can't multiply the work. */
class ComponentValues {
  readonly #message: Message
  readonly #fieldTypes: FieldTypes
  #dictionaries: Map<string, Dictionary> | undefined
  #queryParameters: ReadonlyMap<string, string | undefined> | undefined

  constructor (message: Message, fieldTypes: FieldTypes) {
    this.#message = message
    this.#fieldTypes = fieldTypes
  }

  of (component: Component): string {
    const { name, parameters } = component
    const message = parameters.has('req') ? this.#request() : this.#message
    if (!name.startsWith('@')) return this.#field(component, message)
    if (name === '@status') return statusOf(message)
    if (!('method' in message)) throw invalid('component-absent')
    return name === '@query-param' ? this.#queryParameter(parameters, message) : derivedValue(name, message)
  }

  #request (): RequestMessage {
    if ('method' in this.#message || this.#message.request === undefined) throw invalid('component-absent')
    return this.#message.request
  }

  #field (component: Component, { fieldLines, trailerLines }: Message): string {
    const { name, parameters } = component
    const lines = parameters.has('tr') ? trailerLines : fieldLines
    if (lines === undefined) throw invalid('component-absent')
    if (parameters.has('bs')) return binaryWrapped(name, lines)
    if (parameters.has('key')) return this.#dictionaryMember(component, lines)
    const value = combined(name, lines)
    return parameters.has('sf') ? strictlySerialized(value, this.#fieldTypes.get(name)) : value
  }

  #dictionaryMember ({ name, parameters }: Component, lines: FieldLines): string {
    this.#dictionaries ??= new Map()
    const place = `${name} ${parameters.has('tr')} ${parameters.has('req')}`
    const dictionary = this.#dictionaries.get(place) ?? parseDictionary(combined(name, lines))
    this.#dictionaries.set(place, dictionary)
    const member = dictionary.get(parameters.get('key')!.value as string)
    if (member === undefined) throw invalid('component-absent')
    return serializeMember(member)
  }

  /** Decoded as forms are and encoded again, names and values alike (RFC 9421 section 2.2.8). */
  #queryParameter (parameters: Parameters, message: RequestMessage): string {
    if (this.#queryParameters === undefined) {
      const found = new Map<string, string | undefined>()
      for (const [name, value] of new URLSearchParams(splitTarget(message).query)) {
        const encoded = formEncoded(name)
        found.set(encoded, found.has(encoded) ? undefined : formEncoded(value))
      }
      this.#queryParameters = found
    }
    const value = this.#queryParameters.get(parameters.get('name')!.value as string)
    if (value === undefined) throw invalid('component-absent')
    return value
  }
}

/** The value of a derived component of a request (RFC 9421 section 2.2), `@query-param` aside. */
export function derivedValue (name: string, message: RequestMessage): string {
  switch (name) {
    case '@method': return checked(message.method, wordText)
    case '@scheme': return message.scheme.toLowerCase()
    case '@authority': return authorityOf(message)
    case '@request-target': return checked(message.target, wordText)
    case '@path': return splitTarget(message).path
    case '@query': return splitTarget(message).query
    case '@target-uri': return targetUri(message)
    default: throw invalid('component-unknown')
  }
}

function statusOf (message: Message): string {
  if (!('status' in message)) throw invalid('component-absent')
  return String(message.status)
}

/** In lower case, without the default port of its scheme (RFC 9421 section 2.2.3). */
function authorityOf (message: RequestMessage): string {
  const authority = normalizedAuthority(message.authority, message.scheme)
  const named = message.target.startsWith('/') ? undefined : absoluteTarget.exec(message.target)?.[2]
  // A target in absolute form names an authority too; were they not the same, two readers could take different ones.
  if (named !== undefined && normalizedAuthority(named, message.scheme) !== authority) throw invalid('component-unusable')
  return authority
}

function normalizedAuthority (authority: string, scheme: string): string {
  const text = checked(authority, authorityText).toLowerCase()
  const port = defaultPorts[scheme.toLowerCase()]
  if (text.endsWith(':')) return text.slice(0, -1)
  return port !== undefined && text.endsWith(port) ? text.slice(0, -port.length) : text
}

function targetUri (message: RequestMessage): string {
  const { target, scheme } = message
  const authority = authorityOf(message)
  if (target.startsWith('/')) return `${scheme.toLowerCase()}://${authority}${checked(target, wordText)}`
  const [, named] = absoluteTarget.exec(checked(target, wordText)) ?? []
  if (named?.toLowerCase() !== scheme.toLowerCase()) throw invalid('component-unusable')
  return target
}

/** Path and query of the target, byte for byte; an absent query is `?` (RFC 9421 section 2.2.7). */
function splitTarget ({ target }: RequestMessage): { readonly path: string, readonly query: string } {
  checked(target, wordText)
  const local = target.startsWith('/') ? target : absoluteTarget.exec(target)?.[3]
  // `*` and the authority form have no path, and one that is made up would be the path of another target too.
  if (local === undefined) throw invalid('component-absent')
  const mark = local.indexOf('?')
  const path = mark < 0 ? local : local.slice(0, mark)
  return { path: path === '' ? '/' : path, query: mark < 0 ? '?' : local.slice(mark) }
}

/** The lines of one field, joined (RFC 9421 section 2.1). */
function combined (name: string, lines: FieldLines): string {
  let value: string | undefined
  for (let index = 0; index < lines.length; index += 2) {
    if (isNamed(lines[index]!, name)) value = value === undefined ? canonical(lines[index + 1]!) : `${value}, ${canonical(lines[index + 1]!)}`
  }
  if (value === undefined) throw invalid('component-absent')
  return checked(value, fieldValue)
}

/** Each line on its own, as bytes (RFC 9421 section 2.1.3). */
function binaryWrapped (name: string, lines: FieldLines): string {
  const wrapped: string[] = []
  for (let index = 0; index < lines.length; index += 2) {
    if (isNamed(lines[index]!, name)) wrapped.push(`:${Buffer.from(checked(canonical(lines[index + 1]!), /^[\0-\xff]*$/), 'latin1').toString('base64')}:`)
  }
  if (wrapped.length === 0) throw invalid('component-absent')
  return wrapped.join(', ')
}

function strictlySerialized (value: string, type: FieldType | undefined): string {
  switch (type) {
    case 'dictionary': return serializeDictionary(parseDictionary(value))
    case 'item': return serializeItem(parseItem(value))
    case 'list': return serializeList(parseList(value))
    case undefined: throw invalid('component-unusable')
  }
}

function isNamed (line: string, name: string): boolean {
  return line.length === name.length && line.toLowerCase() === name
}

/** One line without white space around it, and without folds (RFC 9421 section 2.1). */
function canonical (line: string): string {
  return trimmed(line.includes('\n') ? line.split(/\r?\n(?=[ \t])/).map(trimmed).join(' ') : line)
}

function trimmed (text: string): string {
  let start = 0
  let end = text.length
  while (start < end && isWhitespace(text.charCodeAt(start))) start++
  while (end > start && isWhitespace(text.charCodeAt(end - 1))) end--
  return text.slice(start, end)
}

function isWhitespace (code: number): boolean {
  return code === 32 || code === 9
}

/** Only letters, digits and `*-._` stay as they are (the form-urlencoded set). */
function formEncoded (text: string): string {
  return encodeURIComponent(text).replace(/[!'()~]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)
}

function checked (text: string, form: RegExp): string {
  if (!form.test(text)) throw invalid('component-unusable')
  return text
}
