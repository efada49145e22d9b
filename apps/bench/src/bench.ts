/**
 * Measures every variant beside a bare route that gets the same requests: servers and load in processes of their own, the two
 * servers in turns. See README.md for how to read the table.
 *
 *     npm run bench [-- --rounds 21] [--seconds 1] [--only text] [--write] [--facts]
 */

import { spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startChild, type Child } from './child.js'
import type { LoadProtocol } from './load.js'
import { controlOf, deviationOf, factsOf, median, tableOf, type Half, type Measured, type Round } from './report.js'
import type { ServerProtocol } from './server.js'
import type { Side } from './variant.js'
import { chosenNames, variantOf } from './variants.js'

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '21' },
    seconds: { type: 'string', default: '0.5' },
    only: { type: 'string', default: '' },
    write: { type: 'boolean', default: false },
    facts: { type: 'boolean', default: false }
  }
})
const [roundCount, seconds] = [Number(options.rounds), Number(options.seconds)]
if (!(Number.isInteger(roundCount) && roundCount > 0 && seconds > 0)) throw new Error('--rounds takes a whole number, --seconds a number, both above 0')
const names = chosenNames(options.only)
if (names.length === 0) throw new Error(`no variant's name contains "${options.only}"`)

/** A server is faster or slower than its twin by some hundredths as long as it lives: where its code happens to lie. So there are several. */
const pairs = 3
const warmupSeconds = 2
/** Below this share of a round, the bare server waited for the load: shares of it would be too high. */
const leastBusy = 0.85
const folder = join(import.meta.dirname, '..', 'results')
/** Servers on one processor, the load on another: what is moved between them in the midst of a round measures the machine. */
const processors = { servers: 0, load: 1 }

type Loaded = Omit<Half, 'micros' | 'bytes'>

async function measure (name: string, load: Child<LoadProtocol>): Promise<Measured> {
  const rounds: Round[] = []
  for (let pair = 0; pair < pairs; pair++) {
    const share = Math.floor((roundCount + pair) / pairs)
    if (share > 0) rounds.push(...await measurePair(name, load, share))
  }
  const { base, target } = variantOf(name)
  return { name, base, target, rounds }
}

/** A variant's server, and one of its base that is no older, so that neither is the warmer one. */
async function measurePair (name: string, load: Child<LoadProtocol>, count: number): Promise<readonly Round[]> {
  const { base } = variantOf(name)
  const servers = { base: startServer(base, name), own: startServer(name, name) }
  try {
    const ports = { base: await servers.base.ask('port'), own: await servers.own.ask('port') }
    await load.ask('load', { name, ports, seconds: warmupSeconds })
    const loaded: Record<Side, Loaded>[] = []
    while (loaded.length < count) {
      const before = { base: await servers.base.ask('cpu'), own: await servers.own.ask('cpu') }
      const results = await load.ask('load', { name, ports, seconds })
      const half = async (side: Side): Promise<Loaded> => {
        const { answers, seconds: took } = results[side]
        const used = await servers[side].ask('cpu') - before[side]
        return { rate: answers / took, cpuMicros: used / answers, busy: used / 1e6 / took }
      }
      loaded.push({ base: await half('base'), own: await half('own') })
    }
    // Last, because it runs the garbage collector by force, which throws away what V8 has learned of the code: loads after it saw half the rate.
    const rounds: Round[] = []
    for (const { base, own } of loaded) {
      rounds.push({ base: { ...base, ...await servers.base.ask('inside') }, own: { ...own, ...await servers.own.ask('inside') } })
    }
    return rounds
  } finally {
    servers.base.stop()
    servers.own.stop()
  }
}

function startServer (name: string, requestsOf: string): Child<ServerProtocol> {
  const server = startChild<ServerProtocol>('server.js', [name, requestsOf])
  isPinned &&= pin(server.pid, processors.servers)
  return server
}

let isPinned = cpus().length > 1 && pin(process.pid, processors.load)
const all: Measured[] = []
const load = startChild<LoadProtocol>('load.js')
try {
  for (const name of names) {
    process.stderr.write(`${all.length + 1} of ${names.length}: ${name}\n`)
    all.push(await measure(name, load))
  }
} finally {
  load.stop()
}

const text = `${tableOf(all)}\n\n${circumstances()}`
if (options.write) write(text)
if (options.facts) for (const fact of factsOf(all)) console.log(JSON.stringify(fact))
else console.log(text)

function circumstances (): string {
  const bases = [...new Set(all.map(({ base }) => base))]
  const lines = bases.map((base) => {
    const busy = median(controlOf(base, all).rounds.map((round) => round.base.busy))
    const warning = busy < leastBusy ? ': too little, something else used the machine, and shares are too high' : ''
    return `"${base}": deviation ${deviationOf(base, all).toFixed(2)}, its server busy ${(busy * 100).toFixed()} % of the time${warning}.`
  })
  const where = isPinned ? 'servers on one processor and the load on another' : 'processes not bound to processors'
  return [`${roundCount} ${roundCount === 1 ? 'round' : 'rounds'} of ${seconds} s for each side, Node ${process.version}, ${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}, ${where}.`, ...lines].join('\n')
}

/** Binds a process and what it starts to one processor; false where that can't be done. */
function pin (pid: number, processor: number): boolean {
  return spawnSync('taskset', ['--all-tasks', '--cpu-list', '--pid', String(processor), String(pid)], { stdio: 'ignore' }).status === 0
}

function write (table: string): void {
  const date = new Date().toISOString().slice(0, 10)
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, `${date}.md`), `# Measured on ${date}\n\n${table}\n`)
}
