/** A customer's side of the departments API: prints a fresh token for one request. */

import { createSecretKey, type KeyObject } from 'node:crypto'
import { parseArgs } from 'node:util'
import { createTokenMinter } from '@sallyport/bearer-jwt'
import { openCompanies } from '../companies.js'
import { liveSecrets } from '../company-file.js'
import { readDataFolder } from '../config.js'
import { runCommand } from '../run-command.js'

const usage = `usage: npm run --silent mint --workspace apps/demo -- --company <id> [--secret <secret>] [--lifetime <seconds>]

  --company   the company's id, such as 100001
  --secret    sign with this access token; default: the newest live one in the register
  --lifetime  seconds from nbf to exp; default: 15, the most that the API takes`

await runCommand(usage, mint)

async function mint (args: readonly string[]): Promise<string> {
  const { company, secret, lifetime } = parseArgs({
    args: [...args],
    options: { company: { type: 'string' }, secret: { type: 'string' }, lifetime: { type: 'string', default: '15' } }
  }).values
  if (company === undefined || !/^[1-9]\d{0,14}$/.test(company)) throw new Error(`--company must be a company's id\n${usage}`)
  if (!/^[1-9]\d{0,8}$/.test(lifetime)) throw new Error(`--lifetime must be a whole number of seconds\n${usage}`)
  const key = secret === undefined ? await registeredKey(company) : createSecretKey(Buffer.from(secret))
  const mintToken = await createTokenMinter({ key, lifetimeSeconds: Number(lifetime), claims: { company_id: Number(company) } })
  return mintToken()
}

async function registeredKey (id: string): Promise<KeyObject> {
  const companies = await openCompanies({ folder: readDataFolder(process.env) })
  const company = companies.find(id)
  if (company === undefined) throw new Error(`There is no company ${id}. There are: ${companies.list().map((known) => known.id).join(', ')}`)
  const newest = liveSecrets(company, Date.now()).at(-1)
  if (newest === undefined) throw new Error(`Company ${id} has no live secret; the company command's rotate gives it one`)
  return newest.key
}
