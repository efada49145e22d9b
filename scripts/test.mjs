// Runs every package's tests and adds up their counts. Extra arguments go to turbo: npm test -- --filter=@sallyport/guard
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

const turbo = ['--no-install', 'turbo', 'run', 'test', '--continue', '--concurrency=3', '--output-logs=full', '--log-order=grouped', '--ui=stream', ...process.argv.slice(2)]
const run = spawn('npx', turbo, { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, NO_COLOR: '1', TURBO_TELEMETRY_DISABLED: '1' } })

/** What tap says of one package: its own lines, and the counts of its closing line. */
const suites = new Map()

function suiteOf (name) {
  if (!suites.has(name)) suites.set(name, { lines: [], passed: 0, failed: 0, skipped: 0, isCounted: false })
  return suites.get(name)
}

for await (const line of createInterface({ input: run.stdout })) {
  const found = /^(@sallyport\/[\w-]+):test: ?(.*)$/.exec(line)
  if (found === null) {
    if (!/^[•\s]|:build:/.test(line) || /error/i.test(line)) console.log(line)
    continue
  }
  const suite = suiteOf(found[1])
  suite.lines.push(found[2])
  const totals = /^# \{ (total: .*) \}$/.exec(found[2])
  if (totals === null) continue
  const count = (name) => Number(new RegExp(`\\b${name}: (\\d+)`).exec(totals[1])?.[1] ?? 0)
  Object.assign(suite, { passed: count('pass'), failed: count('fail'), skipped: count('skip') + count('todo'), isCounted: true })
}
const code = run.exitCode ?? await new Promise((resolve) => run.once('close', resolve))

let [passed, failed, skipped] = [0, 0, 0]
for (const [name, suite] of [...suites].sort()) {
  const isBroken = suite.failed > 0 || !suite.isCounted || suite.lines.some((line) => /^\s*not ok |^# ERROR/.test(line))
  if (isBroken && suite.failed === 0) suite.failed = 1
  if (isBroken) console.log(suite.lines.filter((line) => !/^\s*(ok |#\s*Subtest|1\.\.)/.test(line)).join('\n'))
  for (const line of suite.lines) if (/# SKIP/.test(line)) console.log(`${name}: ${line.trim()}`)
  console.log(`${name}: ${suite.passed} passed, ${suite.failed} failed, ${suite.skipped} skipped`)
  passed += suite.passed
  failed += suite.failed
  skipped += suite.skipped
}
// A failed build, or nothing that ran, is no success.
if ((code !== 0 || suites.size === 0) && failed === 0) failed = 1
if (skipped > 0 && process.env.REQUIRE_SERVICES === '1') {
  console.log(`${skipped} skipped, and REQUIRE_SERVICES=1 allows none`)
  failed += skipped
}
console.log(`${passed} passed, ${failed} failed`)
process.exitCode = failed > 0 ? 1 : 0
