/** The operator's side of the commerce API: users and their permissions, and a new password for somebody who lost theirs. */

import { parseArgs } from 'node:util'
import { listOf, readConfig } from '../config.js'
import { openDatabase } from '../database.js'
import { migrate } from '../migrations.js'
import { runCommand } from '../run-command.js'
import { ADMINISTRATOR, createUsers, newPassword, permissions, renewLogin, type Users } from '../users.js'

const usage = `usage: npm run --silent user --workspace apps/demo -- <command>

  add <name> --permissions <p,p...>   a new user; shows the password this once
  list                                all users with their permissions
  password <name>                     gives a user a new password, and shows it this once; tokens that they have stay good

  permissions: ${permissions.join(', ')}
  The embedded database is for one process: while a server has it open, an administrator adds users by POST /commerce/api/users.
  With DATABASE_URL the server may run.`

const operandCounts: Readonly<Record<string, number>> = { add: 1, list: 0, password: 1 }

await runCommand(usage, run)

async function run (args: readonly string[]): Promise<string> {
  const { values, positionals: [command = '', ...operands] } = parseArgs({ args: [...args], allowPositionals: true, options: { permissions: { type: 'string' } } })
  const count = Object.hasOwn(operandCounts, command) ? operandCounts[command] : undefined
  const [name = ''] = operands.map((operand) => operand.trim())
  if (command === 'add' && values.permissions === undefined) throw new Error(`add needs --permissions\n\n${usage}`)
  const isMeant = count === operands.length && (count === 0 || name !== '') && (command === 'add' || values.permissions === undefined)
  if (!isMeant) throw new Error(usage)
  const { dataFolder: folder, databaseUrl: url } = readConfig(process.env)
  const database = await openDatabase({ folder, url }).catch((error: unknown) => {
    throw new Error(`${error instanceof Error ? error.message : String(error)}\nAn administrator adds users to a running server by POST /commerce/api/users.`)
  })
  try {
    await migrate(database)
    const users = createUsers(database)
    switch (command) {
      case 'add': return await add(users, name, listOf(values.permissions))
      case 'password': return await renewPassword(users, name, folder)
      default: return (await users.list()).map((user) => `${user.name.padEnd(30)} ${user.permissions.join(' ')}`).join('\n')
    }
  } finally {
    await database.close()
  }
}

async function add (users: Users, name: string, wanted: readonly string[]): Promise<string> {
  const unknown = wanted.find((permission) => !permissions.some((known) => known === permission))
  if (unknown !== undefined) throw new Error(`there is no permission ${JSON.stringify(unknown)}. There are: ${permissions.join(', ')}`)
  const password = newPassword()
  const user = await users.add({ name, password, permissions: [...new Set(wanted)] })
  if (user === undefined) throw new Error(`there is, or was, a user ${JSON.stringify(name)}`)
  return `user         ${name}\npermissions  ${user.permissions.join(' ')}\npassword     ${password}\n\nThe password is shown this once.`
}

async function renewPassword (users: Users, name: string, folder: string): Promise<string> {
  const password = newPassword()
  if (!await users.setPassword({ name, password })) throw new Error(`there is no user ${JSON.stringify(name)}`)
  if (name === ADMINISTRATOR) renewLogin(folder, password)
  return `user      ${name}\npassword  ${password}\n\nThe password is shown this once.`
}
