/** Wrong versions of a right request: what clients send by mistake, and what attackers send on purpose. */

import type { InjectOptions } from 'fastify'

export interface Mutation {
  /** Names the header and the change, never the value. */
  readonly title: string
  /** Makes the wrong request of a right one with the same headers: a fresh one, where requests can be used up. */
  readonly apply: (request: InjectOptions) => InjectOptions
}

/** What may stand in a header where something else was meant. */
const junk: readonly string[] = [
  '', ' ', ',', ';', '=', '"', '""', '\\', '0', '-1', '1e400', 'null', 'undefined', 'true', '[]', '{}', '{"a":', '__proto__', '..', '%00', '%zz',
  '\xe9', '\xff\xfe', 'Bearer', 'Bearer ', 'Bearer  x', 'Basic Og==', 'a.b', 'a.b.c', 'a.b.c.d.e', '....', 'A'.repeat(8_000), '='.repeat(500), '(('.repeat(500)
]

/** Every single mutation of each header and of the body of such a request. */
export function * mutationsOf ({ headers = {}, payload }: InjectOptions): Generator<Mutation> {
  for (const name of Object.keys(headers)) {
    yield { title: `without ${name}`, apply: (request) => withHeader(request, name, () => undefined) }
    for (const [change, wrong] of wrongValues) {
      yield { title: `${name} ${change}`, apply: (request) => withHeader(request, name, wrong) }
    }
  }
  for (const [change, wrong] of wrongBodies(payload)) {
    yield { title: `body ${change}`, apply: (request) => ({ ...request, method: 'POST', payload: wrong }) }
  }
  for (const method of ['HEAD', 'OPTIONS', 'POST', 'DELETE'] as const) yield { title: `as ${method}`, apply: (request) => ({ ...request, method }) }
}

function withHeader (request: InjectOptions, name: string, change: (value: string) => string | undefined): InjectOptions {
  const headers = { ...request.headers } as Record<string, string>
  const changed = change(String(headers[name]))
  if (changed === undefined) delete headers[name]
  else headers[name] = changed
  return { ...request, headers }
}

const wrongValues: readonly (readonly [string, (value: string) => string])[] = [
  ['twice', (value) => `${value}, ${value}`],
  ['doubled', (value) => value + value],
  ['cut by one', (value) => value.slice(0, -1)],
  ['cut in half', (value) => value.slice(0, value.length >> 1)],
  ['in upper case', (value) => value.toUpperCase()],
  ['padded', (value) => ` ${value} `],
  ['with a foreign letter', (value) => `${value}\xe9`],
  ...junk.map((text, i) => [`as junk ${i}`, () => text] as const),
  ...junk.map((text, i) => [`with junk ${i} after its scheme`, (value: string) => `${value.split(' ', 1)[0]} ${text}`] as const),
  ...Array.from({ length: 9 }, (_, i) => [`changed at ${i}/8`, (value: string) => changedAt(value, Math.floor((value.length - 1) * i / 8))] as const)
]

function changedAt (value: string, at: number): string {
  return value.slice(0, at) + (value[at] === 'A' ? 'B' : 'A') + value.slice(at + 1)
}

function * wrongBodies (payload: InjectOptions['payload']): Generator<readonly [string, string | Buffer]> {
  const text = typeof payload === 'string' || Buffer.isBuffer(payload) ? payload.toString() : JSON.stringify(payload ?? {})
  yield ['empty', '']
  yield ['cut', text.slice(0, -1)]
  yield ['with more after it', `${text} `]
  yield ['of other bytes', Buffer.from([0xff, 0xfe, 0x00, 0x80])]
  yield ['null', 'null']
  yield ['a list', '[]']
  yield ['a number', '1e400']
  yield ['poisoned', '{"__proto__":{"isAdmin":true},"constructor":{"prototype":{}}}']
  yield ['deep', '['.repeat(5_000) + ']'.repeat(5_000)]
}
