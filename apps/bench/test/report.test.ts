import t from 'tap'
import { deviationOf, factsOf, goalsOf, median, shareOf, tableOf, verdictOf, type Half, type Measured } from '../src/report.js'
import type { Target } from '../src/variant.js'
import { chosenNames, variants } from '../src/variants.js'

const half = (rate: number): Half => ({ rate, cpuMicros: 1e6 / rate, busy: 0.97, micros: 5e5 / rate, bytes: 1_000 })

/** Rounds in which the base and the variant had these rates. */
function measured (name: string, rates: readonly (readonly [base: number, own: number])[], more: { base?: string, target?: Target } = {}): Measured {
  return { name, base: more.base ?? 'bare', target: more.target, rounds: rates.map(([base, own]) => ({ base: half(base), own: half(own) })) }
}

t.test('calls a target missed only when the deviation does not explain it', async (t) => {
  const cases: readonly (readonly [number, number, string])[] = [[0.85, 0.03, 'pass'], [0.84, 0.03, 'undecided'], [0.81, 0.03, 'missed'], [0.81, 0.1, 'undecided'], [2, 0.1, 'pass'], [2, 0.11, 'undecided'], [0.5, 0.3, 'missed']]
  for (const [value, deviation, verdict] of cases) t.equal(verdictOf({ value, target: 0.85, deviation }), verdict, `${value} within ${deviation}`)
})

t.test('compares within a round, so that a machine that slows down changes nothing', async (t) => {
  t.equal(shareOf(measured('guarded', [[1_000, 800], [500, 400], [100, 80]])), 0.8)
  t.equal(median([4, 1, 3, 2]), 2.5)
})

t.test('takes the deviation from the control, and never less than 0.03', async (t) => {
  t.equal(deviationOf('bare', [measured('bare, again', [[1_000, 1_000], [1_000, 990], [1_000, 1_010]])]), 0.03)
  t.equal(deviationOf('bare', [measured('bare, again', [[1_000, 1_500], [1_000, 1_250], [1_000, 1_200]])]), 0.25)
  t.throws(() => deviationOf('bare', [measured('guarded', [[1_000, 900]])]), /"bare, again" was not measured/)
})

t.test('judges the share of the own base, and the peer beside it', async (t) => {
  const all = [
    measured('bare, again', [[1_000, 1_000]]), measured('other, bare, again', [[2_000, 2_000]], { base: 'other, bare' }),
    measured('ours', [[1_000, 900]], { target: { share: 0.85, fasterThan: 'peer' } }), measured('peer', [[500, 500]]),
    measured('theirs', [[2_000, 1_000]], { base: 'other, bare', target: { share: 0.6 } })
  ]
  t.same(goalsOf(all[2]!, all), [
    { variant: 'ours', of: 'bare', value: 0.9, target: 0.85, verdict: 'pass' },
    { variant: 'ours', of: 'peer', value: 0.9, target: 1, verdict: 'missed' }
  ])
  t.same(goalsOf(all[4]!, all), [{ variant: 'theirs', of: 'other, bare', value: 0.5, target: 0.6, verdict: 'missed' }])
  t.same(factsOf(all)[0], { name: 'ours', value: 0.9, unit: 'x bare', target: '>= 0.85', holds: true })
  t.same(factsOf(all).map((fact) => (fact as { holds: boolean | null }).holds), [true, false, false])
  const table = tableOf(all)
  t.match(table, '| ours | 900 | 0.90 | 55.6 | 111.1 | 0 | pass: 0.85; missed: faster than peer |')
  t.match(table, '| bare | 1000 | 1.00 | (500.0) | (1000.0) | (1000) |  |', 'a bare route shows its own costs')
  t.match(table, /\| bare, again .*\n(?:.*\n)*\| other, bare \| 2000 .*\n\| other, bare, again/, 'each base heads what is measured beside it')
})

t.test('measures with every variant what it is compared to', async (t) => {
  t.same(chosenNames('legacy'), ['bare, again', 'legacy-headers'])
  t.same(chosenNames('seen, static'), ['bare, again', 'bearer-jwt, first seen, static secret', '@fastify/jwt, static secret'])
  t.same(chosenNames('hono, its'), ['hono, bare, again', 'hono, its jwt middleware'])
  t.same(chosenNames('no such'), [])
  t.same(chosenNames(''), Object.keys(variants).filter((name) => variants[name]!.base !== name))
  t.same(chosenNames('bare, POST'), ['bare, POST, again'])
  for (const [name, { base, target }] of Object.entries(variants)) {
    for (const other of [base, `${base}, again`, ...target?.fasterThan === undefined ? [] : [target.fasterThan]]) t.equal(variants[other]?.base, base, `${name} beside ${other}`)
  }
})
