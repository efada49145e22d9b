/**
 * The three views that Node has of a request's headers: `rawHeaders`, and `headers` and `headersDistinct`, which it makes of
 * the first when they are asked for. What is taken out of one must be gone from all, also from those not made yet.
 */

import { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'

type Message = Pick<IncomingMessage, 'headers' | 'headersDistinct' | 'rawHeaders'> & Record<symbol, unknown>

/** True for a value that is to go. */
export type IsOurs = (value: unknown) => boolean

/** Takes the field lines of one header whose value is ours out of every view; `name` in lower case. */
export function removeHeader (raw: IncomingMessage, name: string, isOurs: IsOurs): void {
  const message = raw as unknown as Message
  const { rawHeaders } = message
  const isLazy = makesViewsLater(message)
  // Where Node's own marks are not known, it makes its views here: from lines that are all still there.
  const headers = (isLazy ? message[marks!.headers] : message.headers) as Record<string, unknown> | undefined | null
  const distinct = (isLazy ? message[marks!.distinct] : message.headersDistinct) as Record<string, string[]> | undefined | null
  const others = valuesOf(rawHeaders, name, isOurs)
  const all = others.length === 0 ? others : valuesOf(rawHeaders, name)
  const isChanged = removeLines(rawHeaders, name, isOurs)
  if (isLazy) message[marks!.count] = rawHeaders.length
  if (headers !== undefined && headers !== null && name in headers) {
    const before = headers[name]
    const kept = isChanged ? keptOf(before, all, others) : isOurs(before) ? undefined : before
    if (kept === undefined) delete headers[name]
    else if (kept !== before) headers[name] = kept
  }
  if (distinct?.[name] === undefined) return
  if (others.length === 0) delete distinct[name]
  else distinct[name] = [...others]
}

/** What remains of a header's value in `headers`: Node joins some headers' lines there and keeps the first of others'. */
function keptOf (before: unknown, all: readonly string[], others: readonly string[]): unknown {
  if (others.length === 0) return undefined
  if (before === all.join(', ')) return others.join(', ')
  return others.includes(before as string) ? before : undefined
}

/** Puts one field line in every view, for a header that none of them has. */
export function addHeader (raw: IncomingMessage, name: string, value: string): void {
  const message = raw as unknown as Message
  const isLazy = makesViewsLater(message)
  const distinct = (isLazy ? message[marks!.distinct] : message.headersDistinct) as Record<string, string[]> | undefined | null
  // Asked for, so made: from the lines before this one.
  message.headers[name] = value
  if (distinct !== undefined && distinct !== null) distinct[name] = [value]
  message.rawHeaders.push(name, value)
  if (isLazy) message[marks!.count] = message.rawHeaders.length
}

const none: readonly string[] = Object.freeze([])
const isNever: IsOurs = () => false

/** The values of one header, a line each, without those that are left out; `name` in lower case. */
export function valuesOf (lines: readonly string[], name: string, isLeftOut: IsOurs = isNever): readonly string[] {
  let found: string[] | undefined
  for (let i = 0; i < lines.length; i += 2) {
    const value = lines[i + 1]!
    if (!isNamed(lines[i]!, name) || isLeftOut(value)) continue
    if (found === undefined) found = [value]
    else found.push(value)
  }
  return found ?? none
}

/** False if there were none. */
function removeLines (lines: string[], name: string, isOurs: IsOurs): boolean {
  let kept = 0
  for (let i = 0; i < lines.length; i += 2) {
    if (isNamed(lines[i]!, name) && isOurs(lines[i + 1])) continue
    lines[kept] = lines[i]!
    lines[kept + 1] = lines[i + 1]!
    kept += 2
  }
  if (kept === lines.length) return false
  // One by one: setting the length of a list leaves compiled code.
  while (lines.length > kept) lines.pop()
  return true
}

function isNamed (candidate: string, name: string): boolean {
  return candidate.length === name.length && (candidate === name || candidate.toLowerCase() === name)
}

/**
 * Node keeps its views, and the number of lines to make them of, under symbols. With them, a view that nobody has asked for need
 * not be made only to take one header out.
 */
interface Marks { readonly headers: symbol, readonly count: symbol, readonly distinct: symbol }

const marks = findMarks()

/** False also for messages that are not Node's own (HTTP/2, tests, a class of the user's), and for those that somebody has changed. */
function makesViewsLater (message: Message): boolean {
  return marks !== undefined && message[marks.count] === message.rawHeaders.length &&
    Object.getPrototypeOf(message) === IncomingMessage.prototype && !Object.hasOwn(message, 'headers') && !Object.hasOwn(message, 'headersDistinct')
}

function findMarks (): Marks | undefined {
  const message = new IncomingMessage(new Socket())
  void message.headersDistinct
  const [headers, count, distinct] = ['kHeaders', 'kHeadersCount', 'kHeadersDistinct'].map((name) => {
    return Object.getOwnPropertySymbols(message).find(({ description }) => description === name)
  })
  return headers === undefined || count === undefined || distinct === undefined ? undefined : { headers, count, distinct }
}
