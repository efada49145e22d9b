/**
 * One variant's server as a process of its own. Beside the load it answers what it used, and what a request costs inside: its
 * own, or another variant's that is to be compared with it.
 */

import { createServer, IncomingMessage, ServerResponse, type RequestListener } from 'node:http'
import { once } from 'node:events'
import { Socket, type AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { answerQuestions } from './child.js'
import type { Sample } from './variant.js'
import { variantOf } from './variants.js'

/** What one request costs in the process: no socket, no HTTP parser, one at a time. */
export interface InsideCost { readonly micros: number, readonly bytes: number }

export type ServerProtocol = {
  readonly port: () => Promise<number>
  /** Microseconds of CPU since the process started. */
  readonly cpu: () => number
  readonly inside: () => Promise<InsideCost>
}

const timedRequests = 500
// So few that they fit in V8's young generation: nothing is collected while they are counted.
const weighedRequests = 40

const [name = '', requestsOf = name] = process.argv.slice(2)
const listener = await variantOf(name).serve()
const { requests, isFresh = false } = variantOf(requestsOf)
const make = await requests()
// Signatures are dated in whole seconds, and a memory store refuses what is dated before it was made.
if (isFresh) await sleep(1_000)
const server = createServer(listener).listen(0, '127.0.0.1')
await once(server, 'listening')
const first = await make()

answerQuestions({
  port: async () => (server.address() as AddressInfo).port,
  cpu: () => process.cpuUsage().user + process.cpuUsage().system,
  inside: async () => ({ micros: await time(), bytes: await weigh() })
} satisfies ServerProtocol)

async function time (): Promise<number> {
  const samples = await prepare(timedRequests)
  globalThis.gc!()
  const start = performance.now()
  for (const sample of samples) await exchange(listener, sample)
  return (performance.now() - start) * 1_000 / samples.length
}

async function weigh (): Promise<number> {
  const samples = await prepare(weighedRequests)
  globalThis.gc!()
  const before = process.memoryUsage().heapUsed
  for (const sample of samples) await exchange(listener, sample)
  return (process.memoryUsage().heapUsed - before) / samples.length
}

async function prepare (count: number): Promise<readonly Sample[]> {
  const samples: Sample[] = []
  while (samples.length < count) samples.push(isFresh ? await make() : first)
  return samples
}

/** Runs one request through the framework: Node's own request and response objects, but nothing is written anywhere. */
function exchange (handle: RequestListener, { method, headers, body }: Sample): Promise<void> {
  const request = new IncomingMessage(callerSocket)
  request.method = method
  request.url = '/'
  request.httpVersion = '1.1'
  request.headers = body === undefined ? { ...headers } : { ...headers, 'content-length': String(Buffer.byteLength(body)) }
  for (const [name, value] of Object.entries(request.headers)) request.rawHeaders.push(name, String(value))
  if (body !== undefined) request.push(body)
  request.push(null)
  const response = new ServerResponse(request)
  return new Promise((resolve, reject) => {
    response.end = function () {
      if (response.statusCode === 200) resolve()
      else reject(new Error(`answers ${response.statusCode}`))
      return response
    }
    handle(request, response)
  })
}

const callerSocket = Object.defineProperty(new Socket(), 'remoteAddress', { value: '127.0.0.1' })
