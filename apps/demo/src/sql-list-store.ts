/** Named address lists and their audit trail in the demo's database, for as many processes as the database has. */

import { randomUUID } from 'node:crypto'
import type { ListChange, ListReplacement, ListStore, ReplaceResult, StoredList } from '@sallyport/ip-allowlist'
import type { Database } from './database.js'

/** A `ListStore` on the tables `address_lists` and `address_list_changes` (see `migrations`). Guards poll it twice a second, so nobody has to be told. */
export function sqlListStore (database: Database): ListStore {
  return Object.freeze({
    async versions () {
      const rows = await database.query<{ name: string, version: string }>('select name, version from address_lists')
      return new Map(rows.map(({ name, version }) => [name, version]))
    },
    async read (name: string) {
      const [list] = await database.query<StoredList>('select version, entries from address_lists where name = $1', [name])
      return list
    },
    async replace (replacement: ListReplacement): Promise<ReplaceResult> {
      const version = randomUUID()
      return database.transaction(async (database) => {
        if (!await swap(database, version, replacement)) return { replaced: false }
        await database.query('insert into address_list_changes (list, change) values ($1, $2)', [replacement.name, JSON.stringify(replacement.change)])
        return { replaced: true, version }
      })
    },
    async history (name: string, limit: number) {
      const rows = await database.query<{ change: ListChange }>('select change from address_list_changes where list = $1 order by position desc limit $2', [name, limit])
      return rows.map(({ change }) => change)
    }
  })
}

/** True for one of several who expect the same version: the others wait for its row, and find another version there. */
async function swap (database: Database, version: string, { name, expected, entries }: ListReplacement): Promise<boolean> {
  const text = JSON.stringify(entries)
  const rows = entries === undefined
    ? await database.query('delete from address_lists where name = $1 and version = $2 returning name', [name, expected])
    : expected === undefined
      ? await database.query('insert into address_lists (name, version, entries) values ($1, $2, $3) on conflict (name) do nothing returning name', [name, version, text])
      : await database.query('update address_lists set version = $2, entries = $3 where name = $1 and version = $4 returning name', [name, version, text, expected])
  return rows.length > 0
}
