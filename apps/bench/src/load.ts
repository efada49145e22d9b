/**
 * The load, as a process of its own: ten connections, one request at a time on each, written from bytes made beforehand. It
 * does so little per answer that the server is what limits the rate (the report says whether it was).
 */

import { once } from 'node:events'
import { createConnection, type Socket } from 'node:net'
import { answerQuestions } from './child.js'
import type { Sample, Side } from './variant.js'
import { variantOf } from './variants.js'

export interface LoadRound {
  /** Whose requests both servers get. */
  readonly name: string
  readonly ports: Readonly<Record<Side, number>>
  /** For each server. */
  readonly seconds: number
}
/** What a server answered, in the time that it took: it ends early if the load runs out of requests that may not be repeated. */
export interface LoadResult { readonly answers: number, readonly seconds: number }
export type LoadProtocol = { readonly load: (round: LoadRound) => Promise<Readonly<Record<Side, LoadResult>>> }

const connections = 10
/** A machine that grows slower all through a round does so for both. */
const turns: readonly Side[] = ['base', 'own', 'own', 'base']
/** Makers of requests, and the rates of the last rounds: so many are made for the next. */
const makers = new Map<string, () => Sample | Promise<Sample>>()
const rates = new Map<string, number>()

answerQuestions({ load } satisfies LoadProtocol)

async function load ({ name, ports, seconds }: LoadRound): Promise<Record<Side, LoadResult>> {
  const bytes = await prepare(name, seconds)
  const { isFresh = false } = variantOf(name)
  let sent = 0
  // A bare server does not mind a repeated request.
  const next: Record<Side, () => Buffer | undefined> = { base: () => bytes[0], own: () => bytes[isFresh ? sent++ : 0] }
  const results = { base: { answers: 0, seconds: 0 }, own: { answers: 0, seconds: 0 } }
  const stayAwake = keepAwake()
  for (const side of turns) {
    const { answers, seconds: took } = await loadServer(ports[side], next[side], seconds / 2)
    results[side].answers += answers
    results[side].seconds += took
  }
  stayAwake.end()
  rates.set(name, results.own.answers / results.own.seconds)
  return results
}

async function loadServer (port: number, next: () => Buffer | undefined, seconds: number): Promise<LoadResult> {
  const sockets = Array.from({ length: connections }, () => createConnection({ port, host: '127.0.0.1', noDelay: true }))
  await Promise.all(sockets.map((socket) => once(socket, 'connect')))
  const start = performance.now()
  const end = start + seconds * 1_000
  const nextInTime = (): Buffer | undefined => performance.now() < end ? next() : undefined
  const counts = await Promise.all(sockets.map((socket) => keepBusy(socket, nextInTime)))
  return { answers: counts.reduce((total, count) => total + count), seconds: (performance.now() - start) / 1_000 }
}

/**
 * Never lets the process sleep in its event loop. Waking a sleeping peer is work of the server's `write`: a bare server keeps
 * the load awake, a guarded one would pay for waking it, and the difference would be taken for the guard's.
 */
function keepAwake (): { readonly end: () => void } {
  let isOver = false
  const turn = (): void => { if (!isOver) setImmediate(turn) }
  turn()
  return { end: () => { isOver = true } }
}

async function prepare (name: string, seconds: number): Promise<readonly Buffer[]> {
  const { requests, isFresh } = variantOf(name)
  const make = makers.get(name) ?? await requests()
  makers.set(name, make)
  const count = isFresh === true ? Math.ceil((rates.get(name) ?? 10_000) * 1.5 * seconds) : 1
  const bytes: Buffer[] = []
  while (bytes.length < count) bytes.push(bytesOf(await make()))
  return bytes
}

function bytesOf ({ method, headers, body = '' }: Sample): Buffer {
  const length = body === '' ? [] : [`content-length: ${Buffer.byteLength(body)}`]
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`)
  return Buffer.from([`${method} / HTTP/1.1`, ...lines, ...length, '', body].join('\r\n'))
}

/** How many were answered 200. Any other answer ends the run: a refusal is fast, and proves nothing. */
function keepBusy (socket: Socket, next: () => Buffer | undefined): Promise<number> {
  return new Promise((resolve, reject) => {
    let answers = 0
    let received = ''
    const send = (): void => {
      const bytes = next()
      if (bytes === undefined) socket.end()
      else socket.write(bytes)
    }
    socket.setEncoding('latin1')
    socket.on('data', (chunk: string) => {
      received += chunk
      if (received.length < answerLength(received)) return
      if (!received.startsWith('HTTP/1.1 200 ')) {
        socket.destroy(new Error(`the server answers ${received.split('\r\n', 1)[0]!}`))
        return
      }
      received = ''
      answers++
      send()
    })
    socket.on('error', reject)
    socket.on('close', () => {
      if (socket.writableEnded) resolve(answers)
      else reject(new Error('the server closed a connection'))
    })
    send()
  })
}

/** Infinite until the head is complete. */
function answerLength (received: string): number {
  const head = received.indexOf('\r\n\r\n')
  if (head < 0) return Infinity
  const [, length] = /\r\ncontent-length: (\d+)\r\n/i.exec(received) ?? []
  if (length === undefined) throw new Error('an answer has no content-length')
  return head + 4 + Number(length)
}
