/** The operator's side of the payments gateway: merchants, what they log in and sign with, and tokens for those who administer it. */

import { parseArgs } from 'node:util'
import { memoryStore } from '@sallyport/guard'
import { readDataFolder } from '../config.js'
import { openKeyRings } from '../key-rings.js'
import { ADMINISTRATOR_SCOPE, createMerchantTokens, GATEWAY } from '../merchant-tokens.js'
import { openMerchants, type Merchants, type Onboarded } from '../merchants.js'
import { hoursOf, runCommand } from '../run-command.js'

const usage = `usage: npm run --silent merchant --workspace apps/demo -- <command>

  add <name>                              a new merchant; shows its login and its HMAC key this once
  list                                    all merchants, without secrets
  rotate <id> [--overlap-hours <hours>]   a further secret and key; older ones count for so long (default: 168)
  revoke <id>                             ends all tokens that the merchant has by now
  administrator <name> [--hours <hours>]  prints a token that may change the gateway's allowlist, and nothing else (default: 8, at most 24)

  The name of an administrator stands in the audit trail of the list. Their tokens end early with the keys of all tokens:
  npm run --silent account --workspace apps/demo -- rotate-keys --environment payments --overlap-hours 0`

await runCommand(usage, run)

async function run (args: readonly string[]): Promise<string> {
  const { values, positionals: [command = '', ...operands] } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: { 'overlap-hours': { type: 'string' }, 'hours': { type: 'string' } }
  })
  const known: Readonly<Record<string, { readonly options: readonly string[], readonly operands: number }>> = {
    add: { options: [], operands: 1 },
    list: { options: [], operands: 0 },
    rotate: { options: ['overlap-hours'], operands: 1 },
    revoke: { options: [], operands: 1 },
    administrator: { options: ['hours'], operands: 1 }
  }
  const accepted = Object.hasOwn(known, command) ? known[command] : undefined
  const [operand = ''] = operands.map((each) => each.trim())
  const isMeant = accepted?.operands === operands.length && (operands.length === 0 || operand !== '') && Object.keys(values).every((option) => accepted.options.includes(option))
  if (!isMeant) throw new Error(usage)
  const folder = readDataFolder(process.env)
  const merchants = await openMerchants({ folder })
  switch (command) {
    case 'add': return onboardedText(await merchants.add(operand))
    case 'rotate': return rotate(merchants, operand, values['overlap-hours'])
    case 'revoke': return revoke(merchants, operand)
    case 'administrator': return administratorToken(merchants, { folder, name: operand, hours: values.hours })
    default: return merchants.list().map(({ id }) => lineOf(merchants, id)).join('\n')
  }
}

async function rotate (merchants: Merchants, id: string, hours = '168'): Promise<string> {
  return onboardedText(await merchants.rotate({ id, overlapMs: hoursOf('--overlap-hours', hours) }))
}

async function revoke (merchants: Merchants, id: string): Promise<string> {
  await merchants.revokeTokens(id)
  return lineOf(merchants, id)
}

interface Administrator { readonly folder: string, readonly name: string, readonly hours?: string | undefined }

/** Signed here, so it needs no database; the server's list of tokens does not know it. */
async function administratorToken (merchants: Merchants, { folder, name, hours = '8' }: Administrator): Promise<string> {
  const lifetimeMs = hoursOf('--hours', hours, { least: 1, most: 24 })
  const tokens = createMerchantTokens({ merchants, keyRings: await openKeyRings({ folder }), store: memoryStore({ maxEntries: 100 }) })
  const { token } = await tokens.issue({ subject: name, tenant: GATEWAY, scopes: [ADMINISTRATOR_SCOPE], lifetimeSeconds: lifetimeMs / 1_000 })
  await tokens.close()
  return token
}

function onboardedText ({ merchant, clientSecret, keyId, keySecret }: Onboarded): string {
  return [
    `merchant       ${merchant.id}`,
    `name           ${merchant.name}`,
    `client secret  ${clientSecret}`,
    `HMAC key id    ${keyId}`,
    `HMAC secret    ${keySecret}`,
    '',
    'The secrets are shown this once. The first logs in at auth/token, with the merchant\'s number as client_id; the second signs requests (its text, not what it means as hexadecimal).'
  ].join('\n')
}

function lineOf (merchants: Merchants, id: string): string {
  const { name, credentials, revokedAt } = merchants.find(id)!
  const keys = credentials.map(({ keyId, lifetime: { notAfter } }) => notAfter === undefined ? keyId : `${keyId} until ${notAfter.toISOString()}`)
  return [`${id.padEnd(10)} ${name}`, `keys: ${keys.join(', ')}`, ...(revokedAt === undefined ? [] : [`tokens issued until ${revokedAt.toISOString()} are refused`])].join('; ')
}
