/** The text of the company register: what a company is, and how its secrets lie sealed (AES-256-GCM). */

import type { KeyObject } from 'node:crypto'
import { OptionReader, type Lifetime } from '@sallyport/guard'
import { createAddressSet, parseEntry } from '@sallyport/ip-allowlist'
import { readMoment } from './register-file.js'
import { seal, unseal } from './sealing.js'

/** One secret. It signs the company's JWTs and is its legacy access token, so it is kept where it can be opened again. */
export interface CompanySecret extends Lifetime {
  /** Names the secret in decision events and for the operator; tells nothing of it. */
  readonly id: string
  /** A `KeyObject`, so that nothing prints it by accident. */
  readonly key: KeyObject
}

export interface Company {
  /** A whole number without leading zeros, as text. */
  readonly id: string
  readonly name: string
  /** Several while one replaces another; the newest last. */
  readonly secrets: readonly CompanySecret[]
  /** IPv4 addresses and networks that the company calls from. Absent: from anywhere. */
  readonly allow?: readonly string[] | undefined
  /** Until when this company may use the legacy headers, if longer than all others. */
  readonly legacyUntil?: Date | undefined
}

/** As many as the legacy headers take. */
export const MAX_SECRETS = 16
/** A shorter secret would be refused as a key. */
export const MIN_SECRET_BYTES = 16

const OWNER = 'company register'

/** Throws for anything but a register that `formatCompanies` could have written with this sealing key. */
export function parseCompanies (text: string, sealingKey: KeyObject): ReadonlyMap<string, Company> {
  const reader = new OptionReader(OWNER, JSON.parse(text), ['companies'])
  const companies = new Map<string, Company>()
  for (const [i] of (reader.list('companies') ?? []).entries()) {
    const item = reader.nested('companies', ['id', 'name', 'secrets', 'allow', 'legacyUntil'], i)
    const company = readCompany(item, sealingKey)
    if (companies.has(company.id)) throw item.error('id', 'is listed before')
    companies.set(company.id, company)
  }
  return companies
}

/** JSON for people and for `parseCompanies`; every secret is sealed anew. */
export function formatCompanies (companies: Iterable<Company>, sealingKey: KeyObject): string {
  const entries = [...companies].map(({ id, name, secrets, allow, legacyUntil }) => ({
    id,
    name,
    secrets: secrets.map((secret) => ({
      id: secret.id,
      sealed: seal(secret.key, sealingKey, [id, secret.id]),
      notBefore: secret.notBefore,
      notAfter: secret.notAfter
    })),
    allow,
    legacyUntil
  }))
  return `${JSON.stringify({ companies: entries }, undefined, 2)}\n`
}

/** The secrets that count at this time, the newest last. */
export function liveSecrets ({ secrets }: Company, nowMs: number): readonly CompanySecret[] {
  return secrets.filter(({ notBefore, notAfter }) => nowMs >= (notBefore?.getTime() ?? -Infinity) && nowMs < (notAfter?.getTime() ?? Infinity))
}

/** Throws, naming the entry, for an empty list and for anything but IPv4 addresses and networks. */
export function checkAllowlist (entries: readonly string[], name = 'allow'): void {
  createAddressSet(entries, { name })
  const foreign = entries.findIndex((entry) => parseEntry(entry).family !== 4)
  if (entries.length === 0 || foreign >= 0) throw new TypeError(`"${name}" must hold IPv4 addresses and networks, at least one`)
}

function readCompany (reader: OptionReader, sealingKey: KeyObject): Company {
  const id = reader.requiredText('id')
  if (!/^[1-9]\d*$/.test(id) || !Number.isSafeInteger(Number(id))) throw reader.error('id', 'must be a whole number as text')
  const allow = reader.texts('allow')
  if (allow !== undefined) checkAllowlist(allow, reader.pathOf('allow'))
  return Object.freeze({
    id,
    name: reader.requiredText('name'),
    secrets: readSecrets(reader, id, sealingKey),
    allow,
    legacyUntil: readMoment(reader, 'legacyUntil')
  })
}

function readSecrets (reader: OptionReader, companyId: string, sealingKey: KeyObject): readonly CompanySecret[] {
  const given = reader.list('secrets')
  if (given === undefined || given.length > MAX_SECRETS) throw reader.error('secrets', `must hold 1 to ${MAX_SECRETS} secrets`)
  return Object.freeze(given.map((_secret, i) => {
    const item = reader.nested('secrets', ['id', 'sealed', 'notBefore', 'notAfter'], i)
    const id = item.requiredText('id')
    const [notBefore, notAfter] = [readMoment(item, 'notBefore'), readMoment(item, 'notAfter')]
    return Object.freeze({
      id,
      key: openSecret(item, sealingKey, [companyId, id]),
      ...(notBefore !== undefined && { notBefore }),
      ...(notAfter !== undefined && { notAfter })
    })
  }))
}

function openSecret (reader: OptionReader, sealingKey: KeyObject, owner: readonly string[]): KeyObject {
  const sealed = reader.requiredText('sealed')
  try {
    return unseal(sealed, sealingKey, { owner, minimumBytes: MIN_SECRET_BYTES })
  } catch (error) {
    throw reader.error('sealed', (error as Error).message)
  }
}
