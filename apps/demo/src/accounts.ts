/** The register of fulfilment accounts: who may have tokens. Onboarding is the operator's, so it is a file and needs no database. */

import { OptionReader } from '@sallyport/guard'
import { openRegisterFile, readMoment } from './register-file.js'

export interface Account {
  /** Stands in the path and in the account's tokens: `nordlys-outfitters`. */
  readonly slug: string
  readonly name: string
  /** Tokens issued in this second or before are refused. */
  readonly revokedAt?: Date | undefined
}

export interface Accounts {
  /** An account as the register has it now. */
  readonly find: (slug: string) => Account | undefined
  readonly list: () => readonly Account[]
  readonly add: (name: string) => Promise<Account>
  /** Ends all tokens that the account has by now, in every environment. */
  readonly revokeTokens: (slug: string) => Promise<void>
}

export interface AccountsOptions {
  readonly folder: string
  /** Milliseconds since the epoch. Default: `Date.now`. */
  readonly clock?: (() => number) | undefined
  readonly onUnreadable?: ((error: unknown) => void) | undefined
}

const OWNER = 'account register'

type Register = ReadonlyMap<string, Account>

/** Opens the register of a data folder; in an empty folder it makes one with two accounts to try things with. */
export async function openAccounts ({ folder, clock = Date.now, onUnreadable }: AccountsOptions): Promise<Accounts> {
  const file = await openRegisterFile<Register>({ folder, name: 'accounts', parse, format, first: firstAccounts, onUnreadable })
  return Object.freeze({
    find: (slug: string) => file.current().get(slug),
    list: () => [...file.current().values()],
    add: async (name: string) => file.change((accounts) => {
      const account = Object.freeze({ slug: freeSlug(name, accounts), name })
      return { content: new Map(accounts).set(account.slug, account), result: account }
    }),
    revokeTokens: async (slug: string) => file.change((accounts) => {
      const account = accounts.get(slug)
      if (account === undefined) throw new Error(`there is no account ${slug}`)
      return { content: new Map(accounts).set(slug, { ...account, revokedAt: new Date(Math.floor(clock() / 1000) * 1000) }), result: undefined }
    })
  })
}

function firstAccounts (): Register {
  return new Map(['Nordlys Outfitters', 'Havn Trading'].map((name) => {
    const slug = slugOf(name)
    return [slug, { slug, name }]
  }))
}

function slugOf (name: string): string {
  return name.normalize('NFKD').toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '').slice(0, 40) || 'account'
}

function freeSlug (name: string, accounts: Register): string {
  const slug = slugOf(name)
  for (let n = 1; ; n++) {
    const candidate = n === 1 ? slug : `${slug}-${n}`
    if (!accounts.has(candidate)) return candidate
  }
}

function format (accounts: Register): string {
  return `${JSON.stringify({ accounts: [...accounts.values()] }, undefined, 2)}\n`
}

function parse (text: string): Register {
  const reader = new OptionReader(OWNER, JSON.parse(text), ['accounts'])
  const accounts = new Map<string, Account>()
  for (const [i] of (reader.list('accounts') ?? []).entries()) {
    const account = readAccount(reader.nested('accounts', ['slug', 'name', 'revokedAt'], i))
    if (accounts.has(account.slug)) throw reader.error(`accounts[${i}].slug`, 'is listed before')
    accounts.set(account.slug, account)
  }
  return accounts
}

function readAccount (reader: OptionReader): Account {
  const [slug, name] = [reader.requiredText('slug'), reader.requiredText('name')]
  if (!/^[a-z0-9]+(-[a-z0-9]+)*$/.test(slug)) throw reader.error('slug', 'must be lower-case letters and digits, joined by single hyphens')
  const revokedAt = readMoment(reader, 'revokedAt')
  return Object.freeze({ slug, name, ...(revokedAt !== undefined && { revokedAt }) })
}
