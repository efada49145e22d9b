// Runs what takes too long for `npm test`, and writes what was measured to docs/proof.md:
//
//     npm run prove [-- --only text] [--rounds 21]
//
// A step prints one line of JSON per measured fact: { name, value, unit, target, holds }, where `holds` is true, false, or null
// if the measurement can't tell. Every packages/*/prove/*.mjs and apps/*/prove/*.mjs is a step; the table below names the others.
// A full run writes the benchmark's table too. With --only, or with fewer than 21 rounds, the report is printed and nothing is written.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { cpus, loadavg, totalmem } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { parseArgs } from 'node:util'

const root = resolve(import.meta.dirname, '..')
const fullRounds = 21
const { values: options } = parseArgs({ options: { only: { type: 'string', default: '' }, rounds: { type: 'string', default: String(fullRounds) } } })
const isFull = options.only === '' && Number(options.rounds) >= fullRounds

const steps = [
  { name: 'conformance', args: ['scripts/conformance.mjs'], read: readTotals },
  ...discover('packages'),
  ...discover('apps'),
  { name: 'bench', args: ['apps/bench/dist/bench.js', '--facts', '--rounds', options.rounds, ...isFull ? ['--write'] : []], read: readFacts }
].filter(({ name }) => name.includes(options.only))
if (steps.length === 0) throw new Error(`no step's name contains "${options.only}"`)

const [loadBefore] = loadavg()
const measured = commit()
const facts = []
for (const step of steps) {
  const start = performance.now()
  const found = await run(step)
  for (const fact of found) facts.push({ step: step.name, ...fact })
  console.log(`${step.name}: ${found.map(verdictOf).join(', ')} (${((performance.now() - start) / 1000).toFixed()} s)`)
}
const count = (verdict) => facts.filter((fact) => verdictOf(fact) === verdict).length
const text = report()
if (isFull) writeFileSync(join(root, 'docs', 'proof.md'), text)
else console.log(`\n${text}`)
console.log(`${count('pass')} passed, ${count('undecided')} undecided, ${count('missed')} missed`)
process.exitCode = count('missed') > 0 ? 1 : 0

/** Long proofs of one package or app, as scripts of their own. */
function discover (group) {
  return readdirSync(join(root, group)).sort().flatMap((name) => {
    const folder = join(group, name, 'prove')
    if (!existsSync(join(root, folder))) return []
    return readdirSync(join(root, folder)).filter((file) => file.endsWith('.mjs')).sort()
      .map((file) => ({ name: `${name}: ${basename(file, '.mjs')}`, args: ['--expose-gc', join(folder, file)], read: readFacts }))
  })
}

/** What the step found. One that fails, or finds nothing, has missed. */
async function run ({ args, read }) {
  const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
  let [output, errors] = ['', '']
  child.stdout.on('data', (chunk) => { output += chunk })
  child.stderr.on('data', (chunk) => { errors += chunk })
  const [code] = await once(child, 'close')
  const found = read(output)
  if (code !== 0 && !found.some(({ holds }) => holds === false)) {
    console.log(errors)
    return [...found, { name: 'ends well', value: `exit code ${code}`, unit: '', target: 'exit code 0', holds: false }]
  }
  return found.length > 0 ? found : [{ name: 'finds something', value: 'nothing', unit: '', target: '', holds: false }]
}

function readFacts (output) {
  return output.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line))
}

/** The last line of a run that counts: `N passed, N failed`. */
function readTotals (output) {
  const found = /^(\d+) passed, (\d+) failed$/m.exec(output)
  if (found === null) return []
  const [, passed, failed] = found
  return [{ name: 'cases that fail', value: Number(failed), unit: `of ${Number(passed) + Number(failed)}`, target: '= 0', holds: failed === '0' && passed !== '0' }]
}

function verdictOf ({ holds }) {
  return holds === true ? 'pass' : holds === null ? 'undecided' : 'missed'
}

function report () {
  const rows = facts.map((fact) => `| ${fact.step} | ${fact.name} | ${fact.value} ${fact.unit} | ${fact.target} | ${verdictOf(fact)} |`)
  return `# Proof

Written by \`npm run prove\`: what takes too long for every test run. Times need a machine that does
nothing else. A share is \`undecided\` when the machine was too restless to tell ([the method](../apps/bench/README.md#the-method)).

${new Date().toISOString().slice(0, 10)}, commit ${measured}, Node ${process.version}, ${cpus().length} x ${cpus()[0]?.model ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB, ${options.rounds} round${options.rounds === '1' ? '' : 's'}, load average ${loadBefore.toFixed(1)} at the start.

| step | what | measured | target | |
|---|---|---|---|---|
${rows.join('\n')}
`
}

function commit () {
  const git = (...args) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim()
  const isChanged = git('status', '--porcelain', '--', 'packages', 'apps', 'scripts') !== ''
  return `${git('rev-parse', '--short', 'HEAD')}${isChanged ? ' with changes' : ''}`
}
