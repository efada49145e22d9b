/**
 * Measures every variant beside a bare route: server and load in processes of their own, rounds interleaved in an order drawn
 * anew each time. See README.md for how to read the table.
 *
 *     npm run bench [-- --rounds 21] [--seconds 1] [--only text] [--write] [--facts]
 */

import { mkdirSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { startChild, type Child } from './child.js'
import type { LoadProtocol } from './load.js'
import { deviationOf, factsOf, median, tableOf, type Measured, type Round } from './report.js'
import type { ServerProtocol } from './server.js'
import { chosenNames, variantOf } from './variants.js'

const { values: options } = parseArgs({
  options: {
    rounds: { type: 'string', default: '21' },
    seconds: { type: 'string', default: '1' },
    only: { type: 'string', default: '' },
    write: { type: 'boolean', default: false },
    facts: { type: 'boolean', default: false }
  }
})
const [rounds, seconds] = [Number(options.rounds), Number(options.seconds)]
if (!(Number.isInteger(rounds) && rounds > 0 && seconds > 0)) throw new Error('--rounds takes a whole number, --seconds a number, both above 0')
const names = chosenNames(options.only)
if (names.length === 0) throw new Error(`no variant's name contains "${options.only}"`)

const warmupSeconds = 4 * seconds
/** Below this share of a round, the bare server waited for the load: shares of it would be too high. */
const leastBusy = 0.85
const folder = join(import.meta.dirname, '..', 'results')

class Contestant implements Measured {
  readonly name: string
  readonly base: string
  readonly target: Measured['target']
  readonly rounds: Round[] = []
  readonly #server: Child<ServerProtocol>

  constructor (name: string) {
    this.name = name
    const { base, target } = variantOf(name)
    this.base = base
    this.target = target
    this.#server = startChild<ServerProtocol>('server.js', [name])
  }

  async run (load: Child<LoadProtocol>, seconds: number): Promise<Round> {
    const { micros, bytes } = await this.#server.ask('inside')
    const port = await this.#server.ask('port')
    const before = await this.#server.ask('cpu')
    const result = await load.ask('load', { name: this.name, port, seconds })
    const used = await this.#server.ask('cpu') - before
    return { rate: result.answers / result.seconds, cpuMicros: used / result.answers, busy: used / 1e6 / result.seconds, micros, bytes }
  }

  stop (): void { this.#server.stop() }
}

const contestants: Contestant[] = []
const load = startChild<LoadProtocol>('load.js')
try {
  for (const name of names) {
    const contestant = new Contestant(name)
    contestants.push(contestant)
    await contestant.run(load, warmupSeconds)
  }
  for (let round = 1; round <= rounds; round++) {
    for (const contestant of shuffled(contestants)) contestant.rounds.push(await contestant.run(load, seconds))
    process.stderr.write(`round ${round} of ${rounds}\n`)
  }
} finally {
  load.stop()
  for (const contestant of contestants) contestant.stop()
}

const text = `${tableOf(contestants)}\n\n${circumstances()}`
if (options.write) write(text)
if (options.facts) for (const fact of factsOf(contestants)) console.log(JSON.stringify(fact))
else console.log(text)

function circumstances (): string {
  const bases = [...new Set(contestants.map(({ base }) => base))]
  const lines = bases.map((base) => {
    const busy = median(contestants.find(({ name }) => name === base)!.rounds.map((round) => round.busy))
    const warning = busy < leastBusy ? ': too little, something else used the machine, and shares are too high' : ''
    return `"${base}": deviation ${deviationOf(base, contestants).toFixed(2)}, its server busy ${(busy * 100).toFixed()} % of the time${warning}.`
  })
  return [`${rounds} ${rounds === 1 ? 'round' : 'rounds'} of ${seconds} s, Node ${process.version}, ${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}.`, ...lines].join('\n')
}

function write (table: string): void {
  const date = new Date().toISOString().slice(0, 10)
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, `${date}.md`), `# Measured on ${date}\n\n${table}\n`)
}

function shuffled<T> (list: readonly T[]): readonly T[] {
  return list.map((value) => ({ value, at: Math.random() })).sort((a, b) => a.at - b.at).map(({ value }) => value)
}
