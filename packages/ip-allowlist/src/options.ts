/** The options of ip-allowlist: what they mean, their checks and their defaults. */

import type { CommonOptions, OptionReader } from '@sallyport/guard'
import { resolveLists, type AddressLists, type CompiledLists, type Family, type ListRules } from './lists.js'

/** The lists of one tenant, or `undefined` where the tenant has none. Throwing, or giving something that is no list, is 503. */
export type TenantListResolver = (tenant: string) => AddressLists | undefined | Promise<AddressLists | undefined>

export interface IpAllowlistOptions extends CommonOptions, AddressLists {
  /**
   * Lists per tenant, chosen by the tenant that the guards before this one proved; both the lists above and the tenant's
   * must let the address pass. Compiled once; from a resolver, once for each object that it gives.
   */
  readonly tenants?: Readonly<Record<string, AddressLists>> | TenantListResolver
  /** What a tenant without lists gets. Default: `deny`. */
  readonly tenantWithoutList?: 'deny' | 'allow'
  /** Families that are served; addresses of others are refused, and entries of others are an `OptionsError`. Default: both. */
  readonly families?: readonly Family[]
  /**
   * Whose word counts for the address. `request`: `request.ip`, which needs `trustProxy` to be off or to name the proxies.
   * `socket`: the peer of the connection, whatever a proxy says. Default: `request`.
   */
  readonly source?: 'request' | 'socket'
  /** Takes entries that cover a whole family, such as `0.0.0.0/0`. Default: false. */
  readonly allowAny?: boolean
  /** Takes ranges such as `10.0.0.1-10.0.0.9`. Default: false, because a hyphen is more often a slip. */
  readonly allowRanges?: boolean
}

export const optionNames = ['allow', 'deny', 'tenants', 'tenantWithoutList', 'families', 'source', 'allowAny', 'allowRanges'] as const

export interface ResolvedOptions {
  readonly lists: CompiledLists
  readonly tenants: ReadonlyMap<string, CompiledLists> | TenantListResolver | undefined
  readonly tenantWithoutList: 'deny' | 'allow'
  readonly source: 'request' | 'socket'
  readonly rules: ListRules
}

/** Checks everything once, at registration. Throws `OptionsError`. */
export function resolveOptions (reader: OptionReader): ResolvedOptions {
  const rules: ListRules = Object.freeze({
    allowAny: reader.flag('allowAny', false),
    allowRanges: reader.flag('allowRanges', false),
    families: readFamilies(reader)
  })
  if (!['allow', 'deny', 'tenants'].some((name) => reader.has(name))) throw reader.error('allow', 'or "deny" or "tenants" is required')
  return Object.freeze({
    lists: resolveLists(reader, rules),
    tenants: readTenants(reader, rules),
    tenantWithoutList: reader.oneOf('tenantWithoutList', ['deny', 'allow'], 'deny'),
    source: reader.oneOf('source', ['request', 'socket'], 'request'),
    rules
  })
}

function readFamilies (reader: OptionReader): readonly Family[] | undefined {
  const given = reader.texts('families')
  if (given?.some((family) => family !== 'ipv4' && family !== 'ipv6')) throw reader.error('families', 'must hold only: ipv4, ipv6')
  return given as readonly Family[] | undefined
}

function readTenants (reader: OptionReader, rules: ListRules): ResolvedOptions['tenants'] {
  const given = reader.raw('tenants')
  if (given === undefined || typeof given === 'function') return given as TenantListResolver | undefined
  if (typeof given !== 'object' || given === null || Array.isArray(given)) throw reader.error('tenants', 'must be an object of lists by tenant, or a function')
  const tenants = Object.keys(given)
  const all = reader.nested('tenants', tenants)
  return new Map(tenants.map((tenant) => [tenant, resolveTenantLists(all.nested(tenant, listNames), rules)]))
}

export const listNames = ['allow', 'deny'] as const

/** Lists of one tenant; an object without any list is refused, since it would let everybody pass. */
export function resolveTenantLists (reader: OptionReader, rules: ListRules): CompiledLists {
  if (!reader.has('allow') && !reader.has('deny')) throw reader.error('allow', 'or "deny" is required')
  return resolveLists(reader, rules)
}
