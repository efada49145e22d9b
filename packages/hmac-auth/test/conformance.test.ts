/** That the conformance run (`npm run conformance`) can fail. The corpora are not part of this repository: `CORPORA_DIR` says where they are. */

import * as guard from '@sallyport/guard'
import t from 'tap'
import * as hmacAuth from '../src/index.js'

interface Tally { readonly passed: number, readonly failed: number, readonly failures: readonly string[], readonly refused: ReadonlyMap<string, unknown> }
type Modules = Omit<typeof hmacAuth & typeof guard, 'default'>
interface Corpus { readonly header: object, readonly vectors: readonly object[] }
type Run = (corpus: object, modules: Modules) => Promise<Tally>

const scripts = new URL('../../../scripts/conformance/', import.meta.url)
const { openCorpus, corporaFolder } = await import(new URL('tally.mjs', scripts).href) as { openCorpus: (file: string) => Corpus | undefined, corporaFolder: string }
async function runOf (module: string, name: string): Promise<Run> {
  return (await import(new URL(`${module}.mjs`, scripts).href) as Record<string, Run>)[name]!
}

const [runSf, runDigest, runHmac] = [await runOf('sf', 'runSf'), await runOf('digest', 'runDigest'), await runOf('hmac', 'runHmac')]
const [runRfc9421, runBases, runKong] = [await runOf('rfc9421', 'runRfc9421'), await runOf('rfc9421-base', 'runRfc9421Base'), await runOf('kong-hmac', 'runKongHmac')]
const modules: Modules = { ...guard, ...hmacAuth }

/** A plugin that answers every request alike: what the run says of it shows that the run can fail. */
function indifferent (judge: () => { identity: object }): Partial<Modules> {
  const plugin = guard.guardPluginOf({
    owner: 'double',
    name: 'hmacAuth',
    optionNames: ['profile', 'keys', 'provesTenant', 'shortSecrets', 'store', 'windowSeconds', 'clockToleranceSeconds', 'clock'],
    define: () => ({
      credentials: [{ other: 'anything' }], proves: [], challenges: { rejected: guard.challenge('Double', {}) }, isPresented: () => true, judge,
      missing: () => new guard.AuthError({ code: 'ERR_DOUBLE', outcome: 'absent', message: 'missing' })
    })
  })
  return { hmacAuth: plugin }
}

const refuse = (): never => { throw new guard.AuthError({ code: 'ERR_DOUBLE', outcome: 'rejected', message: 'no' }) }
const plugins = [indifferent(() => ({ identity: {} })), indifferent(refuse), indifferent(() => { throw new Error('broken') })]

const runs: readonly (readonly [file: string, run: Run, doubles: readonly Partial<Modules>[]])[] = [
  ['sf.json', runSf, [{ parseItem: refuse, parseList: refuse, parseDictionary: refuse }, { parseItem: () => ({ type: 'integer', value: 1, parameters: new Map() }) as never }]],
  ['digest.json', runDigest, [{ parseContentDigest: refuse }, { watchContentDigest: () => ({ update: () => undefined, verify: () => undefined }) }]],
  ['hmac.json', runHmac, [{ createMac: (_algorithm, key) => guard.createMac('sha1', key) }, { isSameMac: () => false }]],
  ['rfc9421.json', runBases, [{ buildSignatureBase: () => '' }, { buildSignatureBase: refuse }]],
  ['rfc9421.json', runRfc9421, plugins],
  ['kong-hmac.json', runKong, plugins]
]

for (const [file, run, doubles] of runs) {
  const corpus = openCorpus(file)
  if (corpus === undefined) {
    const reason = `${file} is not in ${corporaFolder} (set CORPORA_DIR)`
    if (process.env['REQUIRE_SERVICES'] === '1') t.fail(reason)
    else await t.test(`${run.name} on ${file}`, { skip: reason }, () => undefined)
    continue
  }
  // The whole of it is the conformance run's.
  const sample = { ...corpus, vectors: corpus.vectors.filter((_, i) => i % Math.ceil(corpus.vectors.length / 30) === 0) }
  await t.test(`${run.name} passes a sample of ${file}, and fails what accepts, refuses or breaks at everything`, async (t) => {
    const tally = await run(sample, modules)
    t.same(tally.failures, [])
    t.ok(tally.passed > 1)
    for (const double of doubles) t.ok((await run(sample, { ...modules, ...double })).failed > 0)
  })
}

await t.test('a valid message that reaches the floor counts as accepted, and by no rule', async (t) => {
  const secret = Buffer.alloc(32, 7)
  const now = 1_700_000_000
  const { sign } = hmacAuth.createRequestSigner({ keyId: 'made-up', secret, clock: () => now * 1000 })
  const request = { method: 'GET', target: '/a?b=c', scheme: 'https', headers: [['Host', 'example.com']] }
  const signed = Object.entries(sign({ method: 'GET', url: 'https://example.com/a?b=c' }))
  const input = signed.find(([name]) => name.toLowerCase() === 'signature-input')![1]
  const vector = (expect: string, more: readonly (readonly string[])[] = []) => ({
    id: expect, level: 'signature', message: { ...request, headers: [...request.headers, ...signed, ...more] }, label: 'sig1', expect, signature_input: input, created: now
  })
  const corpus = (...vectors: readonly object[]) => ({ header: { keys: { one: { kid: 'made-up', k: secret.toString('base64url') } } }, vectors })
  const tally = await runRfc9421(corpus(vector('valid')), modules)
  t.same([tally.passed, tally.failures, [...tally.refused]], [1, [], []])
  t.equal((await runRfc9421(corpus(vector('invalid')), modules)).failed, 1)
})
