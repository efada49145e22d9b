/**
 * The three views that Node has of a request's headers: `rawHeaders`, and `headers` and `headersDistinct`, which it makes of
 * the first when they are asked for. What is taken out of one must be gone from all, also from those not made yet.
 */

import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import { isSameIgnoringCase, startsWithIgnoringCase } from './letters.js'

type Headers = IncomingMessage['headers']
type Views = Pick<IncomingMessage, 'headers' | 'rawHeaders'> & Partial<Pick<IncomingMessage, 'headersDistinct'>>
type Message = Views & Record<symbol, unknown>

/**
 * Takes the field lines of one header out of every view, those whose value has a scheme where one is named; names and
 * schemes in lower case. Nearly every credential is the only line of its name, in a message that nobody has changed.
 */
export function removeHeader (raw: IncomingMessage, name: string, scheme?: string): void {
  const message = raw as unknown as Message
  const { rawHeaders } = message
  const headers = headersOnly(message)
  const at = soleLine(rawHeaders, name)
  const value = at < 0 ? undefined : rawHeaders[at + 1]
  if (headers === undefined || at === SEVERAL || headers[name] !== value) {
    removeLines(message, name, scheme)
    return
  }
  if (value === undefined || !hasScheme(value, scheme)) return
  removeLine(rawHeaders, at)
  message[marks!.count] = rawHeaders.length
  // In the object that Node made, not in a copy: whoever kept that must not find the credential in it.
  delete headers[name]
}

/** Whether a value is to go where what has this scheme goes. */
export function hasScheme (value: unknown, scheme: string | undefined): boolean {
  return scheme === undefined || startsWithIgnoringCase(String(value), scheme)
}

function removeLine (lines: string[], at: number): void {
  for (let i = at + 2; i < lines.length; i++) lines[i - 2] = lines[i]!
  // One by one: setting the length of a list leaves compiled code.
  lines.pop()
  lines.pop()
}

/** In any message, whatever has been done to it. Both views are asked for before lines go, so that Node makes none later. */
function removeLines ({ headers, headersDistinct: distinct, rawHeaders: lines }: Views, name: string, scheme: string | undefined): void {
  const all = valuesOf(lines, name)
  const others = all.filter((value) => !hasScheme(value, scheme))
  let kept = 0
  for (let i = 0; i < lines.length; i += 2) {
    if (isSameIgnoringCase(lines[i]!, name) && hasScheme(lines[i + 1], scheme)) continue
    lines[kept++] = lines[i]!
    lines[kept++] = lines[i + 1]!
  }
  lines.length = kept
  removeFrom(headers, { name, scheme, all, others })
  if (distinct?.[name] === undefined) return
  if (others.length === 0) delete distinct[name]
  else distinct[name] = others
}

interface Removed { readonly name: string, readonly scheme: string | undefined, readonly all: readonly string[], readonly others: readonly string[] }

function removeFrom (headers: Headers, { name, scheme, all, others }: Removed): void {
  const before = headers[name]
  const kept = all.length > others.length ? keptOf(before, all, others) : hasScheme(before, scheme) ? undefined : before
  if (kept === undefined) delete headers[name]
  else if (kept !== before) headers[name] = kept as string
}

/** What remains of a header's value in `headers`: Node joins some headers' lines there and keeps the first of others'. */
function keptOf (before: unknown, all: readonly string[], others: readonly string[]): unknown {
  if (others.length === 0) return undefined
  if (before === all.join(', ')) return others.join(', ')
  return others.includes(before as string) ? before : undefined
}

/** Puts one field line in every view, for a header that none of them has. */
export function addHeader ({ headers, headersDistinct: distinct, rawHeaders }: Views, name: string, value: string): void {
  headers[name] = value
  if (distinct !== undefined) distinct[name] = [value]
  rawHeaders.push(name, value)
}

/** The values of one header, a line each; `name` in lower case. */
export function valuesOf (lines: readonly string[], name: string): readonly string[] {
  const found: string[] = []
  for (let i = 0; i < lines.length; i += 2) if (isSameIgnoringCase(lines[i]!, name)) found.push(lines[i + 1]!)
  return found
}

export const SEVERAL = -2

/** Where the only line of a header stands, its value after it; -1 where there is none, `SEVERAL` where there are more. `name` in lower case. */
export function soleLine (lines: readonly string[], name: string): number {
  let at = -1
  for (let i = 0; i < lines.length; i += 2) {
    if (!isSameIgnoringCase(lines[i]!, name)) continue
    if (at >= 0) return SEVERAL
    at = i
  }
  return at
}

/**
 * Node keeps its views, and the number of lines to make them of, under symbols. With them, `headersDistinct`, which nobody may have
 * asked for, need not be made only to take one header out.
 */
interface Marks { readonly headers: symbol, readonly count: symbol, readonly distinct: symbol }

const marks = findMarks()

/**
 * The headers that Node made of all lines, where they are all it made. `undefined` for messages that are not Node's own (HTTP/2, tests, a
 * class of the user's), and for those that somebody has changed.
 */
function headersOnly (message: Message): Headers | undefined {
  if (marks === undefined || message[marks.count] !== message.rawHeaders.length || (message[marks.distinct] ?? undefined) !== undefined) return undefined
  const headers = message[marks.headers] as Headers | undefined | null
  if (headers === undefined || headers === null || Object.getPrototypeOf(headers) !== Object.prototype) return undefined
  if (Object.getPrototypeOf(message) !== IncomingMessage.prototype || Object.hasOwn(message, 'headers') || Object.hasOwn(message, 'headersDistinct')) return undefined
  return headers
}

function findMarks (): Marks | undefined {
  const message = new IncomingMessage(new Socket())
  void message.headersDistinct
  const [headers, count, distinct] = ['kHeaders', 'kHeadersCount', 'kHeadersDistinct'].map((name) => {
    return Object.getOwnPropertySymbols(message).find(({ description }) => description === name)
  })
  return headers === undefined || count === undefined || distinct === undefined ? undefined : { headers, count, distinct }
}
