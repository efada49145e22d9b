/**
 * Measures every variant beside a bare route: server and load in processes of their own, rounds interleaved in changing order,
 * and the median of each round's ratio to the bare route of the same round. The bare route runs twice; how far it is from
 * itself is what a difference has to exceed.
 *
 *     npm run bench [-- --rounds 21] [--seconds 1] [--only text] [--write]
 */

import { fork, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import type { Ready, Usage } from './server.js'
import { targets, variants } from './variants.js'

const { values: options } = parseArgs({
  options: { rounds: { type: 'string', default: '21' }, seconds: { type: 'string', default: '1' }, only: { type: 'string', default: '' }, write: { type: 'boolean', default: false } }
})
const folder = join(import.meta.dirname, '..')
const autocannon = createRequire(import.meta.url).resolve('autocannon')
const CONNECTIONS = '10'
const LEAST_DEVIATION = 0.03

interface Server { readonly name: string, readonly process: ChildProcess, readonly ready: Ready, readonly rates: number[], readonly micros: number[] }

const names = Object.keys(variants).filter((name) => name.startsWith('bare') || name.includes(options.only))
const servers: Server[] = []
for (const name of names) servers.push(await start(name))
try {
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const server of rotated(servers, round)) await measure(server)
    process.stderr.write(`round ${round + 1} of ${options.rounds}\r`)
  }
  const table = report()
  console.log(`\n${table}`)
  if (options.write) write(table)
} finally {
  for (const server of servers) server.process.kill()
}

async function start (name: string): Promise<Server> {
  const child = fork(join(import.meta.dirname, 'server.js'), [name], { execArgv: ['--expose-gc', '--max-semi-space-size=128'] })
  const ended = once(child, 'exit').then(([code]) => { throw new Error(`the server for "${name}" ended with ${String(code)}`) })
  const [ready] = await Promise.race([once(child, 'message'), ended]) as [Ready]
  ended.catch(() => undefined)
  return { name, process: child, ready, rates: [], micros: [] }
}

async function measure (server: Server): Promise<void> {
  const before = await usage(server)
  const requests = await load(server.ready)
  const after = await usage(server)
  server.rates.push(requests / Number(options.seconds))
  server.micros.push((after - before) / requests)
}

async function usage ({ process: child }: Server): Promise<number> {
  child.send('usage')
  const [{ cpuMicros }] = await once(child, 'message') as [Usage]
  return cpuMicros
}

/** Requests that were answered 2xx. Any other answer ends the run: a refusal is fast, and proves nothing. */
async function load ({ port, headers }: Ready): Promise<number> {
  const given = Object.entries(headers).flatMap(([name, value]) => ['-H', `${name}=${value}`])
  const child = spawn(process.execPath, [autocannon, '-j', '-n', '-c', CONNECTIONS, '-d', options.seconds, ...given, `http://127.0.0.1:${port}/`], { stdio: ['ignore', 'pipe', 'ignore'] })
  let text = ''
  child.stdout.on('data', (chunk: Buffer) => { text += chunk.toString() })
  await once(child, 'close')
  const result = JSON.parse(text) as { '2xx': number, non2xx: number, errors: number }
  if (result.non2xx > 0 || result.errors > 0 || result['2xx'] === 0) throw new Error(`the load saw refusals or errors: ${JSON.stringify(result)}`)
  return result['2xx']
}

function report (): string {
  const [first, control] = [servers[0]!, servers[1]!]
  const shares = (server: Server): readonly number[] => server.rates.map((rate, round) => rate / first.rates[round]!)
  const deviation = Math.max(LEAST_DEVIATION, Math.abs(1 - median(shares(control))))
  const lines = servers.map((server) => {
    const share = median(shares(server))
    const extra = median(server.micros.map((micros, round) => micros - first.micros[round]!))
    const bytes = server.ready.bytesPerRequest - first.ready.bytesPerRequest
    return `| ${server.name} | ${Math.round(median(server.rates))} | ${share.toFixed(2)} | ${extra.toFixed(1)} | ${Math.round(bytes)} | ${verdict(server, share, deviation)} |`
  })
  return [
    '| variant | requests/s | share of bare | CPU us more than bare | bytes more than bare | target |',
    '|---|---|---|---|---|---|',
    ...lines,
    '',
    `${options.rounds} rounds of ${options.seconds} s, ${CONNECTIONS} connections, Node ${process.version}, ${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}; control's deviation counts as ${deviation.toFixed(2)}.`
  ].join('\n')

  function verdict ({ name, rates }: Server, share: number, within: number): string {
    const target = targets[name]
    if (target === undefined) return ''
    const peer = servers.find((server) => server.name === target.fasterThan)
    const ratio = peer === undefined ? undefined : median(rates.map((rate, round) => rate / peer.rates[round]!))
    const goals: readonly (readonly [number, number])[] = [[share, target.share], ...ratio === undefined ? [] : [[ratio, 1] as const]]
    const word = goals.every(([value, goal]) => value >= goal) ? 'pass' : goals.some(([value, goal]) => value < goal - within) ? 'missed' : 'undecided'
    return `${word}: ${target.share}${ratio === undefined ? '' : `; ${ratio.toFixed(2)} x ${target.fasterThan}`}`
  }
}

function write (table: string): void {
  const date = new Date().toISOString().slice(0, 10)
  mkdirSync(join(folder, 'results'), { recursive: true })
  writeFileSync(join(folder, 'results', `${date}.md`), `# Measured on ${date}\n\n${table}\n`)
}

function median (values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

function rotated<T> (list: readonly T[], by: number): readonly T[] {
  const at = by % list.length
  return [...list.slice(at), ...list.slice(0, at)]
}
