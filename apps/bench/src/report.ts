/** From rounds to a table and verdicts. Nothing here measures. */

import type { Side, Target } from './variant.js'

/** What one server did in one round. */
export interface Half {
  readonly rate: number
  /** CPU that the server used, per request and as a share of the time that it was loaded. */
  readonly cpuMicros: number
  readonly busy: number
  /** Of a request inside the process. */
  readonly micros: number
  readonly bytes: number
}

/** A variant's server and its base's, in turns, with the same requests. */
export type Round = Readonly<Record<Side, Half>>

export interface Measured {
  readonly name: string
  readonly base: string
  readonly target?: Target | undefined
  readonly rounds: readonly Round[]
}

export type Verdict = 'pass' | 'undecided' | 'missed'

/** One target of a variant, and how it stands. */
export interface Goal {
  readonly variant: string
  /** What the value is a multiple of: a variant's requests per second. */
  readonly of: string
  readonly value: number
  readonly target: number
  readonly verdict: Verdict
}

/** A base that differs from itself by less counts as differing by this much. */
const LEAST_DEVIATION = 0.03
/** A base that differs from itself by more proves nothing good. */
const MOST_DEVIATION = 0.1

/**
 * A target is missed only if the value is below it by more than the bare route's deviation from itself. Within that it is
 * undecided, and so is whatever was measured on a machine too restless to tell.
 */
export function verdictOf ({ value, target, deviation }: { readonly value: number, readonly target: number, readonly deviation: number }): Verdict {
  if (value + deviation < target) return 'missed'
  return value >= target && deviation <= MOST_DEVIATION ? 'pass' : 'undecided'
}

/** How far the bare route was from itself. */
export function deviationOf (base: string, all: readonly Measured[]): number {
  return Math.max(LEAST_DEVIATION, Math.abs(1 - shareOf(controlOf(base, all))))
}

export function controlOf (base: string, all: readonly Measured[]): Measured {
  return find(all, `${base}, again`)
}

export function goalsOf (measured: Measured, all: readonly Measured[]): readonly Goal[] {
  const { name, base, target } = measured
  if (target === undefined) return []
  const deviation = deviationOf(base, all)
  const goal = (of: string, value: number, wanted: number): Goal => {
    return { variant: name, of, value, target: wanted, verdict: verdictOf({ value, target: wanted, deviation }) }
  }
  const share = shareOf(measured)
  const { fasterThan } = target
  return [goal(base, share, target.share), ...fasterThan === undefined ? [] : [goal(fasterThan, share / shareOf(find(all, fasterThan)), 1)]]
}

/** One line per target, as `npm run prove` reads them: `holds` is true, false, or null where it is undecided. */
export function factsOf (all: readonly Measured[]): readonly object[] {
  const holds: Readonly<Record<Verdict, boolean | null>> = { pass: true, undecided: null, missed: false }
  return all.flatMap((measured) => goalsOf(measured, all)).map(({ variant, of, value, target, verdict }) => ({
    name: variant, value: Number(value.toFixed(2)), unit: `x ${of}`, target: `>= ${target}`, holds: holds[verdict]
  }))
}

export function tableOf (all: readonly Measured[]): string {
  const bases = [...new Set(all.map(({ base }) => base))]
  const lines = bases.flatMap((base) => [bareLine(base, controlOf(base, all)), ...all.filter((measured) => measured.base === base).map((measured) => lineOf(measured, all))])
  return [
    ['variant', 'requests/s', 'share of bare', 'us per call', 'CPU us under load', 'bytes per call', 'target'],
    Array.from({ length: 7 }, () => '---'),
    ...lines
  ].map((line) => `| ${line.join(' | ')} |`).join('\n')
}

function bareLine (base: string, control: Measured): readonly string[] {
  const own = (key: keyof Half): number => median(control.rounds.map((round) => round.base[key]))
  return [base, own('rate').toFixed(), '1.00', `(${own('micros').toFixed(1)})`, `(${own('cpuMicros').toFixed(1)})`, `(${own('bytes').toFixed()})`, '']
}

function lineOf (measured: Measured, all: readonly Measured[]): readonly string[] {
  const { name, base, rounds } = measured
  const more = (key: keyof Half): number => median(rounds.map((round) => round.own[key] - round.base[key]))
  const goals = goalsOf(measured, all).map(({ verdict, of, target }) => of === base ? `${verdict}: ${target}` : `${verdict}: faster than ${of}`)
  return [
    name, median(rounds.map(({ own }) => own.rate)).toFixed(), shareOf(measured).toFixed(2), more('micros').toFixed(1), more('cpuMicros').toFixed(1), more('bytes').toFixed(), goals.join('; ')
  ]
}

/** What the variant did in each round as a multiple of what its base did in the same round; the median. */
export function shareOf ({ rounds }: Measured): number {
  return median(rounds.map(({ own, base }) => own.rate / base.rate))
}

export function median (values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}

function find (all: readonly Measured[], name: string): Measured {
  const found = all.find((measured) => measured.name === name)
  if (found === undefined) throw new Error(`"${name}" was not measured`)
  return found
}
