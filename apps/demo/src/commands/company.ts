/** The operator's side: companies, their secrets and their addresses. A running server follows every change at once. */

import { parseArgs } from 'node:util'
import { openCompanies, type Companies, type Issued } from '../companies.js'
import { liveSecrets } from '../company-file.js'
import { instantOf, listOf, readDataFolder } from '../config.js'
import { hoursOf, runCommand } from '../run-command.js'

const usage = `usage: npm run company --workspace apps/demo -- <command>

  add <name> [--allow <entry,entry...>] [--short-secret]   a new company; shows its secret this once
  list                                                     all companies, without secrets
  rotate <id> [--overlap-hours <hours>]                    a further secret; older ones count for so long (default: 168)
  allow <id> <entry...> | none                             the IPv4 addresses and networks it may call from
  legacy-until <id> <date> | none                          its own end of the legacy headers (from the next start on)`

await runCommand(usage, run)

async function run (args: readonly string[]): Promise<string> {
  const { values, positionals: [command = '', ...operands] } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { allow: { type: 'string' }, 'short-secret': { type: 'boolean' }, 'overlap-hours': { type: 'string' } }
  })
  const known: Readonly<Record<string, readonly string[]>> = { add: ['allow', 'short-secret'], list: [], rotate: ['overlap-hours'], allow: [], 'legacy-until': [] }
  const accepted = Object.hasOwn(known, command) ? known[command] : undefined
  if (accepted === undefined || Object.keys(values).some((option) => !accepted.includes(option))) throw new Error(usage)
  const companies = await openCompanies({ folder: readDataFolder(process.env) })
  switch (command) {
    case 'add': return add(companies, operands, values)
    case 'rotate': return rotate(companies, operands, values['overlap-hours'])
    case 'allow': return allow(companies, operands)
    case 'legacy-until': return legacyUntil(companies, operands)
    default: return list(companies, operands)
  }
}

interface AddOptions { readonly allow?: string | undefined, readonly 'short-secret'?: boolean | undefined }

async function add (companies: Companies, [name, ...rest]: readonly string[], { allow, 'short-secret': shortSecret }: AddOptions): Promise<string> {
  if (name === undefined || name.trim() === '' || rest.length > 0) throw new Error(usage)
  const issued = await companies.add({ name: name.trim(), allow: allow === undefined ? undefined : listOf(allow), shortSecret })
  return issuedText(issued)
}

async function rotate (companies: Companies, [id, ...rest]: readonly string[], hours = '168'): Promise<string> {
  if (id === undefined || rest.length > 0) throw new Error(usage)
  const issued = await companies.rotate({ id, overlapMs: hoursOf('--overlap-hours', hours) })
  return issuedText(issued)
}

async function allow (companies: Companies, [id, ...entries]: readonly string[]): Promise<string> {
  if (id === undefined || entries.length === 0) throw new Error(usage)
  const list = entries.flatMap(listOf)
  await companies.setAllowlist({ id, allow: list.join() === 'none' ? undefined : list })
  return lineOf(companies, id)
}

async function legacyUntil (companies: Companies, [id, until, ...rest]: readonly string[]): Promise<string> {
  if (id === undefined || until === undefined || rest.length > 0) throw new Error(usage)
  await companies.setLegacyUntil({ id, until: until === 'none' ? undefined : instantOf('legacy-until', until) })
  return lineOf(companies, id)
}

function list (companies: Companies, operands: readonly string[]): string {
  if (operands.length > 0) throw new Error(usage)
  return companies.list().map(({ id }) => lineOf(companies, id)).join('\n')
}

function issuedText ({ company, secret }: Issued): string {
  return `company  ${company.id}\nname     ${company.name}\nsecret   ${secret}\n\nThe secret is shown this once. It signs the company's JWTs, and is its legacy access token.`
}

function lineOf (companies: Companies, id: string): string {
  const company = companies.find(id)!
  const secrets = liveSecrets(company, Date.now()).map(({ id, notAfter }) => notAfter === undefined ? id : `${id} until ${notAfter.toISOString()}`)
  return [
    `${id.padEnd(10)} ${company.name}`,
    `from ${company.allow?.join(', ') ?? 'anywhere'}`,
    `secrets: ${secrets.join(', ') || 'none'}`,
    ...(company.legacyUntil === undefined ? [] : [`legacy headers until ${company.legacyUntil.toISOString()}`])
  ].join('; ')
}
