/** Corpora and how their vectors count (the rules of the corpora's README.md). */

import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

const repository = resolve(import.meta.dirname, '../..')

/** Where the corpora are: `CORPORA_DIR`, from the repository's root. */
export const corporaFolder = resolve(repository, process.env.CORPORA_DIR ?? '../shared/corpora')

/** A corpus by its file name; `undefined` if the file is not there. */
export function openCorpus (file) {
  const path = join(corporaFolder, file)
  if (!existsSync(path)) return undefined
  const corpus = JSON.parse(readFileSync(path, 'utf8'))
  if (typeof corpus.header !== 'object' || !Array.isArray(corpus.vectors)) throw new Error(`${path} is no corpus: it needs a header and vectors`)
  return corpus
}

/** The closed list of rules by which a valid vector may be refused, with 4xx. */
export const designRules = {
  serialisation: 'serialisation other than compact',
  claims: 'claims that are no JSON object',
  algorithm: 'algorithm or encryption not offered',
  notNested: 'not nested',
  floor: 'below the signature floor and no named gap',
  proxies: 'unsafe trustProxy',
  shortKey: 'key shorter than RFC 7518 without shortSecrets'
}

/**
 * What one file came to. Every vector lands in exactly one place: passed, failed, refused by design (per rule), a difference
 * of strength `should` or `may` (per rule, with its reason), or skipped because its part is not built yet.
 */
export class Tally {
  passed = 0
  failures = []
  refused = new Map()
  differences = new Map()
  skipped = new Map()

  constructor (file) {
    this.file = file
  }

  /**
   * @param vector its id and its strength count
   * @param expected `accept`, `reject` or `either`
   * @param answer what came out: `status`, and `faults`, things that are wrong whatever was expected
   * @param rule of `designRules`, if the vector is outside of the contract
   */
  count (vector, { expected, rule, answer }) {
    const { status, faults = [], note } = answer
    const isAccepted = status >= 200 && status < 300
    const isRefused = status >= 400 && status < 500
    const problems = [...faults]
    if (!isAccepted && !isRefused) problems.push(`answered ${status}`)
    if (problems.length > 0) return this.fail(vector, problems.join('; '))
    const isRight = expected === 'either' || isAccepted === (expected === 'accept')
    const what = `${isAccepted ? 'accepted' : 'refused'}, expected: ${expected}${note === undefined ? '' : ` (${note})`}`
    if (expected !== 'accept' || rule === undefined) this.judge(vector, isRight, what)
    else if (isRefused) this.refuse(vector, rule)
    else this.fail(vector, `accepted, though refused by design: ${rule}`)
  }

  /**
   * Right, or wrong in the way that `what` says; how much that is depends on the vector's strength.
   * @param reason why a difference is there; by default what the corpus says of the vector
   */
  judge (vector, isRight, what, reason) {
    if (isRight) this.passed++
    else if ((vector.strength ?? 'must') === 'must') this.fail(vector, what)
    else this.differ(vector, what, reason)
  }

  refuse (vector, rule) {
    add(this.refused, rule, vector.id)
  }

  /** Runs one vector; whatever it throws is a failure of that vector and not of the run. */
  async attempt (vector, run) {
    try {
      await run()
    } catch (error) {
      this.fail(vector, `threw ${error instanceof Error ? error.message : String(error)}`)
    }
  }

  fail (vector, why) {
    this.failures.push(`${vector.id}: ${why}${vector.description === undefined && vector.comment === undefined ? '' : ` [${vector.description ?? vector.comment}]`}`)
  }

  /** Grouped by what the corpus says of it, so that a rule is listed once and not once a vector. */
  differ (vector, what, reason) {
    const rule = reason ?? `${what}; ${vector.policy ?? vector.rationale ?? vector.note ?? vector.description ?? vector.comment ?? vector.category}`
    add(this.differences, `${vector.strength}: ${rule}`, vector.id)
  }

  skip (vector, why) {
    add(this.skipped, why, vector.id)
  }

  get failed () {
    return this.failures.length
  }

  /** `jws.json: 170 passed, 0 failed (23 refused by design, 0 should-differences)` */
  line () {
    return `${this.file}: ${this.passed} passed, ${this.failed} failed (${sum(this.refused)} refused by design, ${sum(this.differences)} should-differences)`
  }

  /** Everything behind the line, a text a line. */
  details () {
    return [
      ...this.failures.map((failure) => `  FAILED ${failure}`),
      ...[...this.refused].map(([rule, ids]) => `  refused by design: ${rule}: ${ids.length}`),
      ...[...this.differences].map(([rule, ids]) => `  difference: ${rule}: ${ids.join(', ')}`),
      ...[...this.skipped].map(([why, ids]) => `  not run: ${why}: ${ids.length}`)
    ]
  }
}

function add (map, key, id) {
  map.set(key, [...map.get(key) ?? [], id])
}

function sum (map) {
  return [...map.values()].reduce((total, ids) => total + ids.length, 0)
}
