/** The corpora of the conformance run, against the sources. They are not part of this repository: `CORPORA_DIR` says where they are. */

import { AuthError, challenge, guardPluginOf } from '@sallyport/guard'
import type { FastifyPluginAsync } from 'fastify'
import t from 'tap'
import { bearerJwt } from '../src/index.js'
import { optionNames } from '../src/options.js'

interface Tally { readonly passed: number, readonly failed: number, readonly failures: readonly string[], line (): string, details (): readonly string[] }
type Run = (corpus: object, plugin: unknown) => Promise<Tally>

const scripts = new URL('../../../scripts/conformance/', import.meta.url)
const { openCorpus, corporaFolder } = await import(new URL('tally.mjs', scripts).href) as { openCorpus: (file: string) => object | undefined, corporaFolder: string }
const { runJws } = await import(new URL('jws.mjs', scripts).href) as { runJws: Run }
const { runJwe } = await import(new URL('jwe.mjs', scripts).href) as { runJwe: Run }
const { runAttacks } = await import(new URL('attacks.mjs', scripts).href) as { runAttacks: Run }

const runs: Readonly<Record<string, Run>> = { 'jws.json': runJws, 'jwe.json': runJwe, 'attacks.json': runAttacks }

/** A guard that answers every token alike: what the run says of it shows that the run can fail. */
function indifferent (judge: () => { identity: object }): FastifyPluginAsync<object> {
  return guardPluginOf({
    owner: 'double',
    name: 'bearerJwt',
    optionNames,
    define: () => ({
      credentials: [{ other: 'anything' }], proves: [], challenges: { rejected: challenge('Double', {}) }, isPresented: () => true, judge,
      missing: () => new AuthError({ code: 'ERR_DOUBLE', outcome: 'absent', message: 'missing' })
    })
  })
}

const judges = [
  () => ({ identity: { claims: {} } }),
  () => { throw new AuthError({ code: 'ERR_DOUBLE', outcome: 'rejected', message: 'no' }) },
  () => { throw new Error('broken') }
]

for (const [file, run] of Object.entries(runs)) {
  const corpus = openCorpus(file)
  if (corpus === undefined) {
    const reason = `${file} is not in ${corporaFolder} (set CORPORA_DIR)`
    if (process.env['REQUIRE_SERVICES'] === '1') t.fail(reason)
    else await t.test(`judges every vector of ${file} as its corpus asks`, { skip: reason }, () => undefined)
    continue
  }
  await t.test(`judges every vector of ${file} as its corpus asks`, async (t) => {
    const tally = await run(corpus, bearerJwt)
    for (const line of [tally.line(), ...tally.details()]) t.comment(line)
    t.same(tally.failures, [])
    t.ok(tally.passed > 0)
  })
  if (run === runAttacks) continue
  await t.test(`fails ${file} for guards that accept, refuse or break at everything`, async (t) => {
    for (const judge of judges) t.ok((await run(corpus, indifferent(judge))).failed > 10)
  })
}
