/** Users of the commerce API, in the database. */

import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { Database } from './database.js'
import { hashPassword, verifyPassword } from './passwords.js'
import { readIfThere, replaceFile } from './private-files.js'

/** What a user may do; an access token carries it as scopes. */
export const permissions = ['users:write', 'tokens:write', 'inventory:read', 'inventory:write'] as const

export interface User {
  readonly id: string
  readonly name: string
  readonly permissions: readonly string[]
}

export interface NewUser {
  readonly name: string
  readonly password: string
  readonly permissions: readonly string[]
}

export interface Users {
  readonly find: (name: string) => Promise<User | undefined>
  readonly findById: (id: string) => Promise<User | undefined>
  /** The user whose name and password these are. Takes as long for an unknown name as for a wrong password. */
  readonly authenticate: (login: { readonly name: string, readonly password: string }) => Promise<User | undefined>
  /** `undefined`: there is, or was, a user of this name. */
  readonly add: (user: NewUser) => Promise<User | undefined>
  /** From now on nobody finds the user; the row and its name stay. False: there is none. */
  readonly disable: (id: string) => Promise<boolean>
  readonly list: () => Promise<readonly User[]>
  readonly setPassword: (change: { readonly name: string, readonly password: string }) => Promise<boolean>
}

interface Row extends User { readonly password_hash: string }

const findBy = (column: 'id' | 'name'): string => `select id, name, permissions, password_hash from commerce_users where ${column} = $1 and disabled_at is null`

const addStatement = `
  insert into commerce_users (name, password_hash, permissions) values ($1, $2, $3)
  on conflict (name) do nothing returning id, name, permissions`

const firstStatement = `
  insert into commerce_users (name, password_hash, permissions) select $1, $2, $3 where not exists (select from commerce_users)
  on conflict (name) do nothing returning id`

export function createUsers (database: Database): Users {
  async function one (column: 'id' | 'name', value: string): Promise<User | undefined> {
    const [row] = await database.query<Row>(findBy(column), [value])
    return row === undefined ? undefined : userOf(row)
  }

  return Object.freeze({
    find: async (name: string) => one('name', name),
    findById: async (id: string) => one('id', id),
    async authenticate ({ name, password }: { readonly name: string, readonly password: string }) {
      const [row] = await database.query<Row>(findBy('name'), [name])
      const isRight = await verifyPassword(password, row?.password_hash)
      return isRight && row !== undefined ? userOf(row) : undefined
    },
    async add ({ name, password, permissions }: NewUser) {
      const [row] = await database.query<User>(addStatement, [name, await hashPassword(password), permissions])
      return row
    },
    async disable (id: string) {
      const rows = await database.query('update commerce_users set disabled_at = now() where id = $1 and disabled_at is null returning id', [id])
      return rows.length > 0
    },
    list: async () => database.query<User>('select id, name, permissions from commerce_users where disabled_at is null order by name'),
    async setPassword ({ name, password }: { readonly name: string, readonly password: string }) {
      const rows = await database.query('update commerce_users set password_hash = $2 where name = $1 and disabled_at is null returning id', [name, await hashPassword(password)])
      return rows.length > 0
    }
  })
}

function userOf ({ id, name, permissions }: Row): User {
  return Object.freeze({ id, name, permissions })
}

export const ADMINISTRATOR = 'admin'

/** Where there is no user yet, makes the first, who may do everything. The login lies in a file: what is printed ends up in logs. */
export async function seedAdministrator (database: Database, folder: string): Promise<void> {
  const [known] = await database.query('select from commerce_users limit 1')
  if (known !== undefined) return
  const password = newPassword()
  // Of several processes that start at once, one makes it.
  const rows = await database.query(firstStatement, [ADMINISTRATOR, await hashPassword(password), permissions])
  if (rows.length > 0) writeLogin(folder, password)
}

const loginPathOf = (folder: string): string => join(folder, 'admin-login.json')

function writeLogin (folder: string, password: string): void {
  replaceFile(loginPathOf(folder), `${JSON.stringify({ name: ADMINISTRATOR, password })}\n`)
}

/** The file that holds the administrator's login, ready to be sent; `undefined` once it was removed. */
export function findLogin (folder: string): string | undefined {
  const path = loginPathOf(folder)
  return readIfThere(path) === undefined ? undefined : path
}

/** Keeps the file true after a change of the password; one that was removed stays away. */
export function renewLogin (folder: string, password: string): void {
  if (findLogin(folder) !== undefined) writeLogin(folder, password)
}

/** 120 bits, safe in shells and JSON alike. */
export function newPassword (): string {
  return randomBytes(15).toString('hex')
}
