/**
 * Structured fields (RFC 9651), read: items, lists and dictionaries, from the text of a field to values.
 *
 * As strict as the RFC's algorithms, and one pass over the text: time and memory grow with its length and with nothing else.
 * Several lines of one field are joined with `, ` before.
 */

import { BoundedCache } from '@sallyport/guard'
import { refusal } from './errors.js'

/** One bare value (RFC 9651 section 3.3). Integers and decimals stay apart, because `1` and `1.0` are different texts. */
export type BareItem =
  | { readonly type: 'integer' | 'decimal' | 'date', readonly value: number }
  | { readonly type: 'string' | 'token' | 'display-string', readonly value: string }
  | { readonly type: 'bytes', readonly value: Uint8Array }
  | { readonly type: 'boolean', readonly value: boolean }

/** By key, in the order in which the keys came first. */
export type Parameters = ReadonlyMap<string, BareItem>

export type Item = BareItem & { readonly parameters: Parameters }

export interface InnerList {
  readonly type: 'inner-list'
  readonly items: readonly Item[]
  readonly parameters: Parameters
  /** How these parameters stood there, if that is the one way to write them; told only where repeated keys are refused. */
  readonly written?: { readonly parameters: Parameters, readonly text: string } | undefined
}

/** What a list holds, and what a key of a dictionary stands for. */
export type Member = Item | InnerList

export type List = readonly Member[]

/** By key, in the order in which the keys came first. */
export type Dictionary = ReadonlyMap<string, Member>

export interface ParseOptions {
  /**
   * What keys that come twice mean, in dictionaries and in parameters. `last`: the last one counts, as RFC 9651 has it.
   * `refuse`: nothing is guessed. Default: `last`
   */
  readonly repeatedKeys?: 'last' | 'refuse'
}

const none: Parameters = new Map()

/** Bits that say what an ASCII character may be part of. */
const digit = 1
const keyStart = 2
const keyPart = 4
const tokenStart = 8
const tokenPart = 16

const classes = new Uint8Array(128)
classify('abcdefghijklmnopqrstuvwxyz*', keyStart | keyPart | tokenStart | tokenPart)
classify('ABCDEFGHIJKLMNOPQRSTUVWXYZ', tokenStart | tokenPart)
classify('0123456789', digit | keyPart | tokenPart)
classify('_-.', keyPart | tokenPart)
classify('!#$%&\'+^`|~:/', tokenPart)

function classify (characters: string, bits: number): void {
  for (const character of characters) classes[character.charCodeAt(0)] = bits
}

const tab = 9
const space = 32
const quote = 34
const percent = 37
const openParenthesis = 40
const closeParenthesis = 41
const comma = 44
const minus = 45
const dot = 46
const zero = 48
const colon = 58
const semicolon = 59
const equals = 61
const questionMark = 63
const at = 64
const backslash = 92

/** Padding may be missing or too long, which RFC 9651 section 4.2.7 asks parsers to bear; both are found in the field. */
const base64 = /^[A-Za-z0-9+/]*={0,2}$/
const displayable = /^(?:[\x20-\x24\x26-\x7e]|%[0-9a-f]{2})*$/
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Parses a field that is one item. */
export function parseItem (text: string, options?: ParseOptions): Item {
  const parser = new FieldParser(text, options)
  const item = parser.item()
  parser.end()
  return item
}

/** Parses a field that is a list; an empty field is an empty one. */
export function parseList (text: string, options?: ParseOptions): List {
  const parser = new FieldParser(text, options)
  const members: Member[] = []
  if (parser.isAtEnd()) return members
  do members.push(parser.member())
  while (parser.hasNext())
  return members
}

/** Parses a field that is a dictionary; an empty field is an empty one. */
export function parseDictionary (text: string, options?: ParseOptions): Dictionary {
  const parser = new FieldParser(text, options)
  const members = new Map<string, Member>()
  if (parser.isAtEnd()) return members
  do parser.entry(members)
  while (parser.hasNext())
  return members
}

/** Signers cover the same components again and again: what their lists hold is remembered, for so many of them. */
const itemLists = new BoundedCache<readonly Item[]>(200)
const longestRemembered = 512

class FieldParser {
  readonly #text: string
  readonly #refusesRepeated: boolean
  #at = 0
  /** Of the parameters that were read last. */
  #parameterText: string | undefined

  constructor (text: string, options: ParseOptions | undefined) {
    this.#text = text
    this.#refusesRepeated = options?.repeatedKeys === 'refuse'
    this.#skipSpaces()
  }

  isAtEnd (): boolean {
    return this.#at === this.#text.length
  }

  /** Only spaces may be left. */
  end (): void {
    this.#skipSpaces()
    if (!this.isAtEnd()) throw malformed()
  }

  /** Behind a member: true if a comma says that a further one must follow, false at the end. */
  hasNext (): boolean {
    this.#skipWhitespace()
    if (this.isAtEnd()) return false
    this.#expect(comma)
    this.#skipWhitespace()
    return true
  }

  entry (members: Map<string, Member>): void {
    const key = this.#newKey(members)
    if (this.#peek() === equals) {
      this.#at++
      members.set(key, this.member())
    } else members.set(key, { type: 'boolean', value: true, parameters: this.#parameters() })
  }

  member (): Member {
    return this.#peek() === openParenthesis ? this.#innerList() : this.item()
  }

  item (): Item {
    const { type, value } = this.#bareItem()
    return { type, value, parameters: this.#parameters() } as Item
  }

  #innerList (): InnerList {
    if (!this.#refusesRepeated) return { type: 'inner-list', items: this.#items(), parameters: this.#parameters() }
    const [items, parameters, text] = [this.#knownItems(), this.#parameters(), this.#parameterText]
    return { type: 'inner-list', items, parameters, written: text === undefined ? undefined : { parameters, text } }
  }

  /** What a text says depends on nothing but the text, up to the parenthesis that closed it. */
  #knownItems (): readonly Item[] {
    const start = this.#at
    const end = this.#text.indexOf(')', start) + 1
    const text = this.#text.slice(start, end)
    const known = itemLists.get(text)
    if (known !== undefined) {
      this.#at = end
      return known
    }
    const items = Object.freeze(this.#items())
    if (this.#at === end && text.length <= longestRemembered) itemLists.set(text, items)
    return items
  }

  #items (): Item[] {
    this.#expect(openParenthesis)
    const items: Item[] = []
    for (;;) {
      this.#skipSpaces()
      if (this.#peek() === closeParenthesis) {
        this.#at++
        return items
      }
      items.push(this.item())
      const next = this.#peek()
      if (next !== space && next !== closeParenthesis) throw malformed()
    }
  }

  #parameters (): Parameters {
    this.#parameterText = ''
    if (this.#peek() !== semicolon) return none
    const parameters = new Map<string, BareItem>()
    const start = this.#at
    let isPlain = true
    do {
      const before = ++this.#at
      this.#skipSpaces()
      if (this.#at > before) isPlain = false
      const key = this.#newKey(parameters)
      if (this.#peek() === equals) {
        const first = this.#text.charCodeAt(++this.#at)
        const value = this.#bareItem()
        isPlain &&= isWrittenOneWay(value, first)
        parameters.set(key, value)
      } else parameters.set(key, { type: 'boolean', value: true })
    } while (this.#peek() === semicolon)
    this.#parameterText = isPlain ? this.#text.slice(start, this.#at) : undefined
    return parameters
  }

  #newKey (taken: ReadonlyMap<string, unknown>): string {
    const key = this.#run(keyStart, keyPart)
    if (this.#refusesRepeated && taken.has(key)) throw malformed()
    return key
  }

  #bareItem (): BareItem {
    const code = this.#peek()
    if (code === quote) return { type: 'string', value: this.#string() }
    if (code === minus || this.#is(digit)) return this.#number()
    if (code === colon) return { type: 'bytes', value: this.#bytes() }
    if (code === questionMark) return { type: 'boolean', value: this.#boolean() }
    if (code === at) return { type: 'date', value: this.#date() }
    if (code === percent) return { type: 'display-string', value: this.#displayString() }
    return { type: 'token', value: this.#run(tokenStart, tokenPart) }
  }

  #string (): string {
    this.#expect(quote)
    const start = this.#at
    let hasEscapes = false
    for (let code = this.#peek(); code !== quote; code = this.#peek()) {
      if (code === backslash) {
        hasEscapes = true
        this.#at++
        if (this.#peek() !== quote && this.#peek() !== backslash) throw malformed()
      } else if (!(code >= space && code < 127)) throw malformed()
      this.#at++
    }
    const text = this.#text.slice(start, this.#at++)
    return hasEscapes ? text.replace(/\\(.)/g, '$1') : text
  }

  #number (): BareItem {
    const start = this.#at
    if (this.#peek() === minus) this.#at++
    const whole = this.#digits()
    if (this.#peek() !== dot) {
      if (whole === 0 || whole > 15) throw malformed()
      return { type: 'integer', value: this.#numberFrom(start) }
    }
    this.#at++
    const fraction = this.#digits()
    if (whole === 0 || whole > 12 || fraction === 0 || fraction > 3) throw malformed()
    return { type: 'decimal', value: this.#numberFrom(start) }
  }

  #numberFrom (start: number): number {
    // There is no negative zero in structured fields.
    return Number(this.#text.slice(start, this.#at)) + 0
  }

  #digits (): number {
    const start = this.#at
    while (this.#is(digit)) this.#at++
    return this.#at - start
  }

  #bytes (): Uint8Array {
    this.#expect(colon)
    const text = this.#upTo(':')
    if (!base64.test(text)) throw malformed()
    return Buffer.from(text, 'base64')
  }

  #boolean (): boolean {
    const text = this.#text.slice(this.#at, this.#at += 2)
    if (text !== '?0' && text !== '?1') throw malformed()
    return text === '?1'
  }

  #date (): number {
    this.#expect(at)
    const { type, value } = this.#number()
    if (type !== 'integer') throw malformed()
    return value
  }

  #displayString (): string {
    this.#expect(percent)
    this.#expect(quote)
    const text = this.#upTo('"')
    if (!displayable.test(text)) throw malformed()
    const bytes = Buffer.from(text.replace(/%(..)/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16))), 'latin1')
    try {
      return utf8.decode(bytes)
    } catch {
      throw malformed()
    }
  }

  /** The text up to a closing character, which is consumed. */
  #upTo (closing: string): string {
    const start = this.#at
    const end = this.#text.indexOf(closing, start)
    if (end < 0) throw malformed()
    this.#at = end + 1
    return this.#text.slice(start, end)
  }

  #run (first: number, rest: number): string {
    const start = this.#at
    if (!this.#is(first)) throw malformed()
    do this.#at++
    while (this.#is(rest))
    return this.#text.slice(start, this.#at)
  }

  #is (bits: number): boolean {
    const code = this.#peek()
    return code < 128 && (classes[code]! & bits) !== 0
  }

  /** The next character's code; NaN at the end, which equals nothing and is in no range. */
  #peek (): number {
    return this.#text.charCodeAt(this.#at)
  }

  #expect (code: number): void {
    if (this.#peek() !== code) throw malformed()
    this.#at++
  }

  #skipSpaces (): void {
    while (this.#peek() === space) this.#at++
  }

  #skipWhitespace (): void {
    while (this.#peek() === space || this.#peek() === tab) this.#at++
  }
}

/** Strings, tokens, and whole numbers from 1, by what they begin with. Of all others the RFC bears several spellings. */
function isWrittenOneWay ({ type }: BareItem, first: number): boolean {
  return type === 'string' || type === 'token' || (type === 'integer' && first > zero)
}

function malformed (): Error {
  return refusal('ERR_HMAC_AUTH_SIGNATURE_INVALID', { reason: 'malformed-field' })
}
