/** The operator's side of the fulfilment API: accounts, their tokens, and the keys behind them. A running server follows every change. */

import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { memoryStore } from '@sallyport/guard'
import { createAccountTokens, environments, fulfilmentScopes, type FulfilmentEnvironment } from '../account-tokens.js'
import { openAccounts, type Accounts } from '../accounts.js'
import { readDataFolder } from '../config.js'
import { openKeyRings, ringNames, type KeyRings } from '../key-rings.js'
import { hoursOf, runCommand } from '../run-command.js'

const usage = `usage: npm run --silent account --workspace apps/demo -- <command>

  add <name> [--environment <e>]                          a new account; shows its slug, and its first token this once
  token <slug> [--environment <e>] [--scopes <s,s...>]    prints a further token, and nothing else
  list                                                    all accounts
  revoke <slug>                                           ends all tokens that the account has by now, in both environments
  rotate-keys --environment <e> [--overlap-hours <hours>] new keys; tokens of the old ones count for so long (default: 168)

  environment: ${environments.join(' or ')} (default: production); rotate-keys takes commerce and payments too
  scopes: ${fulfilmentScopes.join(', ')} (default: all)
  A token of this command lives 30 days.`

await runCommand(usage, run)

interface Values {
  readonly environment?: string | undefined
  readonly scopes?: string | undefined
  readonly 'overlap-hours'?: string | undefined
}

async function run (args: readonly string[]): Promise<string> {
  const { values, positionals: [command = '', ...operands] } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { environment: { type: 'string' }, scopes: { type: 'string' }, 'overlap-hours': { type: 'string' } }
  })
  const known: Readonly<Record<string, { readonly options: readonly string[], readonly operands: number }>> = {
    add: { options: ['environment'], operands: 1 },
    token: { options: ['environment', 'scopes'], operands: 1 },
    list: { options: [], operands: 0 },
    revoke: { options: [], operands: 1 },
    'rotate-keys': { options: ['environment', 'overlap-hours'], operands: 0 }
  }
  const accepted = Object.hasOwn(known, command) ? known[command] : undefined
  if (accepted?.operands !== operands.length || Object.keys(values).some((option) => !accepted.options.includes(option))) throw new Error(usage)
  const folder = readDataFolder(process.env)
  const [accounts, keyRings] = [await openAccounts({ folder }), await openKeyRings({ folder })]
  const [operand = ''] = operands
  switch (command) {
    case 'add': return add({ accounts, keyRings, name: operand.trim(), values })
    case 'token': return token({ accounts, keyRings, slug: operand, values })
    case 'revoke': return revoke(accounts, operand)
    case 'rotate-keys': return rotateKeys(keyRings, values)
    default: return accounts.list().map(lineOf).join('\n')
  }
}

interface Onboarding { readonly accounts: Accounts, readonly keyRings: KeyRings, readonly values: Values }

async function add ({ accounts, keyRings, name, values }: Onboarding & { readonly name: string }): Promise<string> {
  if (name === '') throw new Error('the name must not be empty')
  const environment = environmentOf(values)
  const { slug } = await accounts.add(name)
  const first = await token({ accounts, keyRings, slug, values })
  return `account      ${slug}\nname         ${name}\nenvironment  ${environment}\ntoken        ${first}\n\nThe token is shown this once, and lives 30 days.`
}

/** Signed and sealed here; the list of tokens in the server's database does not know it, so `revoke` is what ends it early. */
async function token ({ accounts, keyRings, slug, values }: Onboarding & { readonly slug: string }): Promise<string> {
  const account = accounts.find(slug)
  if (account === undefined) throw new Error(`there is no account ${slug}. There are: ${accounts.list().map((known) => known.slug).join(', ')}`)
  const scopes = values.scopes === undefined ? fulfilmentScopes : values.scopes.split(',')
  const unknown = scopes.find((scope) => !fulfilmentScopes.some((known) => known === scope))
  if (unknown !== undefined) throw new Error(`there is no scope ${JSON.stringify(unknown)}. There are: ${fulfilmentScopes.join(', ')}`)
  // A revocation counts by the second, and would take a token with it that is issued in the same one.
  await sleep(Math.max(0, (account.revokedAt?.getTime() ?? 0) + 1_000 - Date.now()))
  const tokens = createAccountTokens(environmentOf(values), { accounts, keyRings, store: memoryStore({ maxEntries: 100 }) })
  const issued = await tokens.issue({ slug, scopes })
  await tokens.close()
  return issued.token
}

async function revoke (accounts: Accounts, slug: string): Promise<string> {
  await accounts.revokeTokens(slug)
  return lineOf(accounts.find(slug)!)
}

async function rotateKeys (keyRings: KeyRings, { environment, 'overlap-hours': hours = '168' }: Values): Promise<string> {
  const name = ringNames.find((known) => known === environment)
  if (name === undefined) throw new Error(`--environment must be one of ${ringNames.join(', ')}`)
  const { signing, encryption } = await keyRings.rotate({ name, overlapMs: hoursOf('--overlap-hours', hours) })
  const sealed = encryption.length === 0 ? '' : ` and sealed with ${encryption.at(-1)!.id}, which is the "kid" that everybody sees`
  return `${name}: new tokens are signed with the key ${signing.at(-1)!.id}${sealed}. Tokens of the keys before it are good for ${hours} hours at most.`
}

function environmentOf ({ environment = 'production' }: Values): FulfilmentEnvironment {
  const found = environments.find((known) => known === environment)
  if (found === undefined) throw new Error(`--environment must be one of ${environments.join(', ')}`)
  return found
}

function lineOf ({ slug, name, revokedAt }: { readonly slug: string, readonly name: string, readonly revokedAt?: Date | undefined }): string {
  return `${slug.padEnd(30)} ${name}${revokedAt === undefined ? '' : `; tokens issued until ${revokedAt.toISOString()} are refused`}`
}
