/** The operator's side of the commerce API: who is there, and a new password for somebody who lost theirs. */

import { readConfig } from '../config.js'
import { openDatabase } from '../database.js'
import { migrate } from '../migrations.js'
import { createUsers, newPassword } from '../users.js'

const usage = `usage: npm run --silent user --workspace apps/demo -- <command>

  list              all users with their permissions
  password <name>   gives a user a new password, and shows it this once

  The embedded database is for one process, so stop the server first; with DATABASE_URL it may run.`

try {
  console.log(await run(process.argv.slice(2)))
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
}

async function run ([command, name, ...rest]: readonly string[]): Promise<string> {
  const isList = command === 'list' && name === undefined
  if (rest.length > 0 || !(isList || (command === 'password' && name !== undefined))) throw new Error(usage)
  const { dataFolder: folder, databaseUrl: url } = readConfig(process.env)
  const database = await openDatabase({ folder, url })
  try {
    await migrate(database)
    const users = createUsers(database)
    if (isList) return (await users.list()).map((user) => `${user.name.padEnd(30)} ${user.permissions.join(' ')}`).join('\n')
    const password = newPassword()
    if (!await users.setPassword({ name: name!, password })) throw new Error(`there is no user ${JSON.stringify(name)}`)
    return `user      ${name}\npassword  ${password}\n\nThe password is shown this once.`
  } finally {
    await database.close()
  }
}
