// Holds the packages' READMEs to the source: headings, the options and refusals tables, and the Use block, which is run.
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const root = resolve(import.meta.dirname, '..')
const headings = ['Install', 'Use', 'What it checks', 'What it does not check', 'Options', 'Refusals', 'Composing', 'Compatibility']
const commonNames = ['as', 'realm', 'clock', 'onDecision']
const statuses = { absent: 401, rejected: 401, forbidden: 403, unavailable: 503 }
const problems = []
let checks = 0

function check (name, holds, problem) {
  checks++
  if (!holds) problems.push(`${name}: ${problem}`)
}

for (const name of readdirSync(join(root, 'packages')).sort()) {
  const folder = join(root, 'packages', name)
  if (JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).private === true) continue
  if (existsSync(join(folder, 'README.md'))) await checkPackage(name, folder)
  else problems.push(`${name}: has no README.md`)
}
for (const problem of problems) console.log(problem)
console.log(`READMEs: ${checks} checks, ${problems.length} problems`)
process.exitCode = problems.length > 0 ? 1 : 0

async function checkPackage (name, folder) {
  const text = readFileSync(join(folder, 'README.md'), 'utf8')
  const found = [...text.matchAll(/^## (.+)$/gm)].map(([, heading]) => heading)
  check(name, found.join() === headings.join(), `headings are ${found.join(', ')}`)
  check(name, text.split('\n').length <= 201, 'README is longer than 200 lines')

  const api = await load(folder, 'index')
  const { optionNames } = await load(folder, name === 'guard' ? 'plugin' : 'options')
  const expected = name === 'guard' ? [...optionNames] : [...optionNames, ...commonNames]
  const documented = tableOf(text, 'Options').map(([first]) => first.replaceAll('`', ''))
  const nested = documented.filter((option) => option.includes('.'))
  check(name, nested.every((option) => expected.includes(option.split('.')[0])), `nested options of none that is known: ${nested.join(', ')}`)
  compare(name, 'options', documented.filter((option) => !nested.includes(option)), expected)

  const refusals = Object.entries(api).find(([key]) => key.endsWith('Refusals') && key !== 'defineRefusals')[1]
  const rows = tableOf(text, 'Refusals').map(([code, status]) => `${code.replaceAll('`', '')} ${status}`)
  compare(name, 'refusals', rows, Object.entries(refusals).map(([code, { outcome, statusCode }]) => `${code} ${statusCode ?? statuses[outcome]}`))

  const errors = Object.keys(api).filter((key) => key.endsWith('Errors')).flatMap((key) => Object.entries(api[key]))
  const otherCodes = [...text.matchAll(/^\| `(ERR_\w+)` \| (\d{3}) \|/gm)].map(([, code, status]) => `${code} ${status}`).filter((row) => !rows.includes(row))
  compare(name, 'errors', otherCodes, errors.map(([code, { statusCode }]) => `${code} ${statusCode}`))
  if (existsSync(join(folder, 'dist', 'routes-options.js'))) {
    const { optionNames: routeOptions } = await load(folder, 'routes-options')
    const firstCells = [...text.matchAll(/^\| (`.*?) \|/gm)].flatMap(([, cell]) => cell.replaceAll('`', '').split(', '))
    compare(name, 'options of the routes', firstCells.filter((cell) => routeOptions.includes(cell)), routeOptions)
  }

  const [, block] = /## Use[\s\S]*?```js\n([\s\S]*?)```/.exec(text) ?? []
  check(name, block !== undefined, 'has no js block under Use')
  if (block !== undefined) runBlock(name, folder, block)
}

function load (folder, file) {
  return import(pathToFileURL(join(folder, 'dist', `${file}.js`)).href)
}

/** Rows of the tables under a heading, without their heads. */
function tableOf (text, heading) {
  const section = text.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? ''
  const tables = section.split(/\n(?!\|)/).map((part) => part.split('\n').filter((line) => line.startsWith('|')))
  return tables.flatMap((lines) => lines.slice(2)).map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim()))
}

function compare (name, what, documented, real) {
  const missing = real.filter((entry) => !documented.includes(entry))
  const extra = documented.filter((entry) => !real.includes(entry))
  check(name, missing.length === 0, `${what} table lacks: ${missing.join(', ')}`)
  check(name, extra.length === 0, `${what} table has, but the source has not: ${extra.join(', ')}`)
}

/** What the block prints must be what its console.log comments say. */
function runBlock (name, folder, block) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', block], { cwd: folder, encoding: 'utf8' })
  check(name, status === 0, `the Use block fails: ${stderr}`)
  const said = [...block.matchAll(/console\.log\(.*\) \/\/ (.+)$/gm)].map(([, comment]) => comment).join('\n')
  check(name, said !== '' && stdout.trim() === said, `the Use block prints ${JSON.stringify(stdout.trim())}, its comments say ${JSON.stringify(said)}`)
}
