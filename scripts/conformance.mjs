// Runs the corpora in CORPORA_DIR (default: ../shared/corpora) against the built packages: node scripts/conformance.mjs [file...]
import { bearerJwt } from '@sallyport/bearer-jwt'
import * as guard from '@sallyport/guard'
import * as hmacAuth from '@sallyport/hmac-auth'
import * as addresses from '@sallyport/ip-allowlist'
import { runAttacks } from './conformance/attacks.mjs'
import { runDigest } from './conformance/digest.mjs'
import { runHmac } from './conformance/hmac.mjs'
import { runIp } from './conformance/ip.mjs'
import { runJwe } from './conformance/jwe.mjs'
import { runJws } from './conformance/jws.mjs'
import { runKongHmac } from './conformance/kong-hmac.mjs'
import { runRfc9421 } from './conformance/rfc9421.mjs'
import { runRfc9421Base } from './conformance/rfc9421-base.mjs'
import { runSf } from './conformance/sf.mjs'
import { corporaFolder, openCorpus } from './conformance/tally.mjs'

const files = {
  'jws.json': (corpus) => runJws(corpus, bearerJwt),
  'jwe.json': (corpus) => runJwe(corpus, bearerJwt),
  'attacks.json': (corpus) => runAttacks(corpus, bearerJwt),
  'ip.json': (corpus) => runIp(corpus, addresses),
  'sf.json': (corpus) => runSf(corpus, hmacAuth),
  'digest.json': (corpus) => runDigest(corpus, hmacAuth),
  'hmac.json': (corpus) => runHmac(corpus, guard),
  'rfc9421.json': async (corpus) => [await runRfc9421Base(corpus, hmacAuth), await runRfc9421(corpus, hmacAuth)],
  'rfc9421-asym.json': (corpus) => runRfc9421Base(corpus, hmacAuth),
  'kong-hmac.json': (corpus) => runKongHmac(corpus, hmacAuth)
}

const wanted = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(files)
const tallies = []
let missing = 0
for (const file of wanted) {
  const corpus = openCorpus(file)
  if (corpus === undefined || files[file] === undefined) {
    console.log(corpus === undefined ? `MISSING ${file}: not in ${corporaFolder} (set CORPORA_DIR)` : `MISSING ${file}: nothing here runs it; known are ${Object.keys(files).join(', ')}`)
    missing++
    continue
  }
  for (const tally of [await files[file](corpus)].flat()) {
    for (const line of tally.details()) console.log(line)
    tallies.push(tally)
  }
}
for (const tally of tallies) console.log(tally.line())
const [passed, failed] = [tallies.reduce((total, tally) => total + tally.passed, 0), tallies.reduce((total, tally) => total + tally.failed, missing)]
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed > 0 ? 1 : 0
