// Runs the corpora in CORPORA_DIR (default: ../shared/corpora) against the built packages: node scripts/conformance.mjs [file...]
import { bearerJwt } from '@sallyport/bearer-jwt'
import * as addresses from '@sallyport/ip-allowlist'
import { runAttacks } from './conformance/attacks.mjs'
import { runIp } from './conformance/ip.mjs'
import { runJwe } from './conformance/jwe.mjs'
import { runJws } from './conformance/jws.mjs'
import { corporaFolder, openCorpus } from './conformance/tally.mjs'

const files = {
  'jws.json': (corpus) => runJws(corpus, bearerJwt),
  'jwe.json': (corpus) => runJwe(corpus, bearerJwt),
  'attacks.json': (corpus) => runAttacks(corpus, bearerJwt),
  'ip.json': (corpus) => runIp(corpus, addresses)
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
  const tally = await files[file](corpus)
  for (const line of tally.details()) console.log(line)
  tallies.push(tally)
}
for (const tally of tallies) console.log(tally.line())
const [passed, failed] = [tallies.reduce((total, tally) => total + tally.passed, 0), tallies.reduce((total, tally) => total + tally.failed, missing)]
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed > 0 ? 1 : 0
