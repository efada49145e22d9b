/** From rounds to a table and verdicts. Nothing here measures. */

import type { Target } from './variant.js'

/** What one variant did in one round. */
export interface Round {
  readonly rate: number
  /** CPU that the server used, per request and as a share of the round. */
  readonly cpuMicros: number
  readonly busy: number
  /** Of a request inside the process. */
  readonly micros: number
  readonly bytes: number
}

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
  return Math.max(LEAST_DEVIATION, Math.abs(1 - ratio(find(all, `${base}, again`), find(all, base))))
}

export function goalsOf (measured: Measured, all: readonly Measured[]): readonly Goal[] {
  const { name, base, target } = measured
  if (target === undefined) return []
  const deviation = deviationOf(base, all)
  const goal = (of: string, wanted: number): Goal => {
    const value = ratio(measured, find(all, of))
    return { variant: name, of, value, target: wanted, verdict: verdictOf({ value, target: wanted, deviation }) }
  }
  return [goal(base, target.share), ...target.fasterThan === undefined ? [] : [goal(target.fasterThan, 1)]]
}

/** One line per target, as `npm run prove` reads them: `holds` is true, false, or null where it is undecided. */
export function factsOf (all: readonly Measured[]): readonly object[] {
  const holds: Readonly<Record<Verdict, boolean | null>> = { pass: true, undecided: null, missed: false }
  return all.flatMap((measured) => goalsOf(measured, all)).map(({ variant, of, value, target, verdict }) => ({
    name: variant, value: Number(value.toFixed(2)), unit: `x ${of}`, target: `>= ${target}`, holds: holds[verdict]
  }))
}

export function tableOf (all: readonly Measured[]): string {
  const lines = all.map((measured) => {
    const base = find(all, measured.base)
    const isBare = measured === base
    const rate = median(measured.rounds.map((round) => round.rate))
    const more = (key: 'micros' | 'cpuMicros' | 'bytes'): number => isBare
      ? median(base.rounds.map((round) => round[key]))
      : median(measured.rounds.map((round, i) => round[key] - base.rounds[i]![key]))
    const sign = (text: string): string => isBare ? `(${text})` : text
    const goals = goalsOf(measured, all).map(({ verdict, of, target }) => of === measured.base ? `${verdict}: ${target}` : `${verdict}: faster than ${of}`)
    return [
      measured.name, rate.toFixed(), ratio(measured, base).toFixed(2), sign(more('micros').toFixed(1)), sign(more('cpuMicros').toFixed(1)),
      sign(more('bytes').toFixed()), goals.join('; ')
    ].join(' | ')
  })
  return [
    'variant | requests/s | share of bare | us per call | CPU us under load | bytes per call | target',
    '--- | --- | --- | --- | --- | --- | ---',
    ...lines
  ].map((line) => `| ${line} |`).join('\n')
}

/** The median of what the one did in each round as a multiple of what the other did in the same round. */
export function ratio (one: Measured, other: Measured): number {
  return median(one.rounds.map(({ rate }, i) => rate / other.rounds[i]!.rate))
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
