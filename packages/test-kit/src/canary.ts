/** Looks for secrets in what an app let out, in every spelling that a log, a header or a body may give them. */

/** One thing that left an app: a body, a header, a log line, an event, an error. */
export interface Trace {
  readonly where: string
  readonly text: string
}

/** A secret found in a trace. Names the place and the spelling; the secret itself stays out of the report. */
export interface Leak {
  readonly where: string
  /** Which of the given secrets, by its place in the list. */
  readonly secret: number
  readonly spelling: string
}

/** Every leak of the secrets into the traces, each place and spelling once. */
export function findLeaks (traces: readonly Trace[], secrets: Iterable<string>): readonly Leak[] {
  const leaks = new Map<string, Leak>()
  const all = traces.map(({ text }) => text).join('\n')
  const mayHold = createSieve(all)
  let number = 0
  for (const secret of secrets) {
    for (const [spelling, text] of spellingsOf(secret)) {
      if (!mayHold(text) || !all.includes(text)) continue
      for (const trace of traces) {
        if (trace.text.includes(text)) leaks.set(`${trace.where} ${number} ${spelling}`, { where: trace.where, secret: number, spelling })
      }
    }
    number++
  }
  return [...leaks.values()]
}

const GRAM = 12
const MASK = (1 << 28) - 1

/**
 * Tells at once of most texts that they are not in a long one. Requests that are signed anew each time bring tens of
 * thousands of tokens, and looking each up in megabytes of log takes minutes.
 */
function createSieve (all: string): (text: string) => boolean {
  const seen = new Uint8Array((MASK + 1) >> 3)
  // A rolling hash of the last GRAM characters; times 31 for each, so 31 ** GRAM for the one that leaves.
  let leaving = 1
  for (let i = 0; i < GRAM; i++) leaving = Math.imul(leaving, 31)
  let hash = 0
  for (let i = 0; i < all.length; i++) {
    hash = Math.imul(hash, 31) + all.charCodeAt(i) | 0
    if (i >= GRAM) hash = hash - Math.imul(leaving, all.charCodeAt(i - GRAM)) | 0
    if (i >= GRAM - 1) seen[(hash & MASK) >> 3]! |= 1 << (hash & 7)
  }
  const isSeen = (text: string, from: number): boolean => {
    let hash = 0
    for (let i = from; i < from + GRAM; i++) hash = Math.imul(hash, 31) + text.charCodeAt(i) | 0
    return (seen[(hash & MASK) >> 3]! & 1 << (hash & 7)) !== 0
  }
  return (text) => text.length < GRAM || (isSeen(text, 0) && isSeen(text, text.length - GRAM))
}

/** The secret as it is, percent-encoded, as JSON, in hex, and in base64 wherever in a longer text it may begin. */
function spellingsOf (secret: string): ReadonlyMap<string, string> {
  const bytes = Buffer.from(secret)
  const hex = bytes.toString('hex')
  const spellings = new Map([
    ['as it is', secret],
    ['percent-encoded', encodeURIComponent(secret)],
    ['JSON', JSON.stringify(secret).slice(1, -1)],
    ['hex', hex],
    ['HEX', hex.toUpperCase()]
  ])
  for (let offset = 0; offset < 3; offset++) {
    const encoded = base64Within(bytes, offset)
    spellings.set(`base64 at ${offset}`, encoded)
    spellings.set(`base64url at ${offset}`, encoded.replaceAll('+', '-').replaceAll('/', '_'))
  }
  return new Map([...spellings].filter(([spelling, text]) => text.length >= 4 && (spelling === 'as it is' || text !== secret)))
}

/** The base64 characters that depend on these bytes alone when `offset` others stand before them. */
function base64Within (bytes: Buffer, offset: number): string {
  const text = Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64').replaceAll('=', '')
  const whole = Math.floor((offset + bytes.length) * 8 / 6)
  return text.slice(Math.ceil(offset * 8 / 6), whole)
}

const publicHeaders = /^(?:host|date|content-(?:type|length|encoding|digest)|accept.*|user-agent|connection|x-forwarded-.*|forwarded|x-real-ip)$/i
const shortestToken = 12

/** What in these request headers could be a token: whole values, the part after a scheme, cookies, and the parts of a JWT. */
export function tokensOf (headers: Readonly<Record<string, unknown>> | undefined): readonly string[] {
  const tokens = Object.entries(headers ?? {}).flatMap(([name, value]) => {
    if (publicHeaders.test(name)) return []
    return [value].flat().flatMap((single) => typeof single === 'string' ? tokensIn(single) : [])
  })
  return tokens.filter((token) => token.length >= shortestToken)
}

function tokensIn (value: string): readonly string[] {
  const afterScheme = value.slice(value.lastIndexOf(' ') + 1)
  const cookies = value.split(';').map((pair) => pair.slice(pair.indexOf('=') + 1).trim())
  const parts = /^[\w-]+(?:\.[\w-]*){2,4}$/.test(afterScheme) ? afterScheme.split('.') : []
  return [value, afterScheme, ...cookies, ...parts]
}
