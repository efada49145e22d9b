/** The register of companies: a file that the operator's commands change and the running server follows. */

import { createSecretKey, randomBytes } from 'node:crypto'
import { checkAllowlist, formatCompanies, MAX_SECRETS, parseCompanies, type Company, type CompanySecret } from './company-file.js'
import { openRegisterFile } from './register-file.js'
import { openSealingKey } from './sealing.js'

export interface Companies {
  /** A company as the register has it now. The same object until the register changes. */
  readonly find: (id: string) => Company | undefined
  readonly list: () => readonly Company[]
  /** A new company, and its secret, which nothing shows again. */
  readonly add: (company: NewCompany) => Promise<Issued>
  /** A further secret; those before it count for `overlapMs` more. */
  readonly rotate: (rotation: { readonly id: string, readonly overlapMs: number }) => Promise<Issued>
  /** Replaces the allowlist; `undefined` opens the company to every address. */
  readonly setAllowlist: (change: { readonly id: string, readonly allow: readonly string[] | undefined }) => Promise<void>
  /** A later end of the legacy headers for one company; `undefined` takes it back. */
  readonly setLegacyUntil: (change: { readonly id: string, readonly until: Date | undefined }) => Promise<void>
}

interface NewCompany {
  readonly name: string
  readonly allow?: readonly string[] | undefined
  /** 18 characters, as old companies have them, in place of 64. */
  readonly shortSecret?: boolean | undefined
}

export interface Issued {
  readonly company: Company
  readonly secret: string
}

export interface CompaniesOptions {
  readonly folder: string
  /** Milliseconds since the epoch. Default: `Date.now`. */
  readonly clock?: (() => number) | undefined
  /** Told once for each text of the register that can't be read; the last good one stays in force. */
  readonly onUnreadable?: (error: unknown) => void
}

/** The company and the token that the documentation of the legacy headers shows to everybody. */
export const documentedExample = Object.freeze({ companyId: '10238497', accessToken: '01298347edf923874a' })

type Register = ReadonlyMap<string, Company>

/** Opens the register of a data folder; in an empty folder it makes one with four companies to try things with. */
export async function openCompanies ({ folder, clock = Date.now, onUnreadable }: CompaniesOptions): Promise<Companies> {
  const sealingKey = await openSealingKey({ folder, name: 'companies' })
  const register = await openRegisterFile<Register>({
    folder,
    name: 'companies',
    parse: (text) => parseCompanies(text, sealingKey),
    format: (companies) => formatCompanies(companies.values(), sealingKey),
    first: () => new Map(firstCompanies(clock()).map((company) => [company.id, company])),
    onUnreadable
  })

  async function change<T> (edit: (companies: Map<string, Company>) => T): Promise<T> {
    return register.change((companies) => {
      const content = new Map(companies)
      return { result: edit(content), content }
    })
  }

  async function edit (id: string, edited: (company: Company) => Company): Promise<Company> {
    return change((companies) => {
      const company = companies.get(id)
      if (company === undefined) throw new Error(`there is no company ${id}`)
      const next = edited(company)
      companies.set(id, next)
      return next
    })
  }

  return Object.freeze({
    find: (id: string) => register.current().get(id),
    list: () => [...register.current().values()],

    async add ({ name, allow, shortSecret = false }: NewCompany) {
      if (allow !== undefined) checkAllowlist(allow)
      const secret = newSecret(shortSecret)
      const company = await change((companies) => {
        const id = String(Math.max(...[...companies.keys()].map(Number)) + 1)
        const added: Company = { id, name, secrets: [sealable(secret, clock())], allow }
        companies.set(id, added)
        return added
      })
      return { company, secret }
    },

    async rotate ({ id, overlapMs }: { readonly id: string, readonly overlapMs: number }) {
      const secret = newSecret(false)
      const now = clock()
      const company = await edit(id, (found) => {
        const kept = found.secrets.map((old) => endingBy(old, now + overlapMs)).filter(({ notAfter }) => notAfter !== undefined && notAfter.getTime() > now)
        if (kept.length >= MAX_SECRETS) throw new Error(`company ${id} has ${kept.length} live secrets already; rotate with a shorter overlap`)
        return { ...found, secrets: [...kept, sealable(secret, now)] }
      })
      return { company, secret }
    },

    async setAllowlist ({ id, allow }: { readonly id: string, readonly allow: readonly string[] | undefined }) {
      if (allow !== undefined) checkAllowlist(allow)
      await edit(id, (company) => ({ ...company, allow }))
    },

    async setLegacyUntil ({ id, until }: { readonly id: string, readonly until: Date | undefined }) {
      await edit(id, (company) => ({ ...company, legacyUntil: until }))
    }
  })
}

/** Two companies without a list, one whose list shuts out this machine, and one whose list is this machine. */
function firstCompanies (now: number): readonly Company[] {
  return [
    { id: '100001', name: 'Nordlys Clinics', secrets: [sealable(newSecret(false), now)] },
    { id: '100002', name: 'Havn Logistics', secrets: [sealable(newSecret(false), now)], allow: ['203.0.113.0/24'] },
    { id: '100003', name: 'Lokal Bakery', secrets: [sealable(newSecret(false), now)], allow: ['127.0.0.1/32'] },
    { id: documentedExample.companyId, name: 'Gammel Partner', secrets: [sealable(documentedExample.accessToken, now)] }
  ]
}

/** Hexadecimal digits: safe in headers, shells and URLs alike. */
function newSecret (isShort: boolean): string {
  return randomBytes(isShort ? 9 : 32).toString('hex')
}

function sealable (secret: string, now: number): CompanySecret {
  return { id: randomBytes(4).toString('hex'), key: createSecretKey(Buffer.from(secret)), notBefore: new Date(now) }
}

function endingBy (secret: CompanySecret, latest: number): CompanySecret {
  return { ...secret, notAfter: new Date(Math.min(latest, secret.notAfter?.getTime() ?? Infinity)) }
}
