/** The options of ip-allowlist: what they mean, their checks and their defaults. */

import type { CommonOptions, OptionReader } from '@sallyport/guard'
import type { Family } from './address.js'
import type { ListEventListener } from './list-events.js'
import type { ListStore } from './list-store.js'
import { resolveLists, type AddressLists, type CompiledLists, type ListContext, type ListRules } from './lists.js'
import { LiveLists } from './live-lists.js'

/** The lists of one tenant, or `undefined` where the tenant has none. Throwing, or giving something that is no list, is 503. */
export type TenantListResolver = (tenant: string) => AddressLists | undefined | Promise<AddressLists | undefined>

export interface IpAllowlistOptions extends CommonOptions, AddressLists {
  /**
   * Lists per tenant, chosen by the tenant that the guards before this one proved; both the lists above and the tenant's
   * must let the address pass. Compiled once; from a resolver, once for each object that it gives, so let it give the same
   * object for a tenant as long as nothing changes: `{ allow: { list: name } }` need never change.
   */
  readonly tenants?: Readonly<Record<string, AddressLists>> | TenantListResolver
  /** What a tenant without lists gets, and what a tenant's list counts for that the store does not have. Default: `deny`. */
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
  /**
   * Where lists are found that are given by name: `allow: { list: 'gateway' }`. They are followed as they change; one that the
   * store does not have lets nobody pass, and one that can't be read keeps what it held, or is 503 if it was never read.
   */
  readonly store?: ListStore
  /** How often the store is asked what has changed. Milliseconds, 10 to 60,000. Default: 500. */
  readonly refreshMs?: number
  /** A store that takes longer has failed. Milliseconds, 1 to 60,000. Default: 5,000. */
  readonly storeTimeoutMs?: number
  /** Called when a list was read anew, or can't be. What it throws is dropped. */
  readonly onListEvent?: ListEventListener
}

export const optionNames = [
  'allow', 'deny', 'tenants', 'tenantWithoutList', 'families', 'source', 'allowAny', 'allowRanges', 'store', 'refreshMs', 'storeTimeoutMs', 'onListEvent'
] as const

/** What `require()` takes. */
export interface IpAllowlistRequirements {
  /** The name of a list in the `store` that must hold the address too. */
  readonly list?: string
}

export interface ResolvedOptions {
  readonly lists: CompiledLists
  readonly tenants: ReadonlyMap<string, CompiledLists> | TenantListResolver | undefined
  readonly tenantWithoutList: 'deny' | 'allow'
  readonly source: 'request' | 'socket'
  readonly context: ListContext
}

/** Checks everything once, at registration. Throws `OptionsError`. */
export function resolveOptions (reader: OptionReader, clock: () => number): ResolvedOptions {
  const rules = readRules(reader, clock)
  const context: ListContext = Object.freeze({ rules, live: readLiveLists(reader, rules) })
  if (!['allow', 'deny', 'tenants'].some((name) => reader.has(name))) throw reader.error('allow', 'or "deny" or "tenants" is required')
  return Object.freeze({
    lists: resolveLists(reader, context),
    tenants: readTenants(reader, context),
    tenantWithoutList: reader.oneOf('tenantWithoutList', ['deny', 'allow'], 'deny'),
    source: reader.oneOf('source', sources, 'request'),
    context
  })
}

export const sources = ['request', 'socket'] as const

/** How entries are read; the same options for guards and for the management API. */
export function readRules (reader: OptionReader, clock: () => number): ListRules {
  return Object.freeze({
    allowAny: reader.flag('allowAny', false),
    allowRanges: reader.flag('allowRanges', false),
    families: readFamilies(reader),
    clock
  })
}

export function readStore (reader: OptionReader): ListStore | undefined {
  const given = reader.raw('store') as Partial<ListStore> | null | undefined
  if (given === undefined) return undefined
  const isStore = (['versions', 'read', 'replace', 'history'] as const).every((method) => typeof given?.[method] === 'function')
  if (!isStore) throw reader.error('store', 'must be a list store, such as memoryListStore()')
  return given as ListStore
}

export function readStoreTimeout (reader: OptionReader): number {
  return reader.integer('storeTimeoutMs', { min: 1, max: 60_000 }, 5_000)
}

function readLiveLists (reader: OptionReader, rules: ListRules): LiveLists | undefined {
  const store = readStore(reader)
  const refreshMs = reader.integer('refreshMs', { min: 10, max: 60_000 }, 500)
  const storeTimeoutMs = readStoreTimeout(reader)
  const onListEvent = reader.fn<ListEventListener>('onListEvent')
  return store && new LiveLists({ store, rules, refreshMs, storeTimeoutMs, onListEvent })
}

function readFamilies (reader: OptionReader): readonly Family[] | undefined {
  const given = reader.texts('families')
  if (given?.some((family) => family !== 'ipv4' && family !== 'ipv6')) throw reader.error('families', 'must hold only: ipv4, ipv6')
  return given as readonly Family[] | undefined
}

function readTenants (reader: OptionReader, context: ListContext): ResolvedOptions['tenants'] {
  const given = reader.raw('tenants')
  if (given === undefined || typeof given === 'function') return given as TenantListResolver | undefined
  if (typeof given !== 'object' || given === null || Array.isArray(given)) throw reader.error('tenants', 'must be an object of lists by tenant, or a function')
  const tenants = Object.keys(given)
  const all = reader.nested('tenants', tenants)
  return new Map(tenants.map((tenant) => [tenant, resolveTenantLists(all.nested(tenant, listNames), context)]))
}

export const listNames = ['allow', 'deny'] as const

/** Lists of one tenant; an object without any list is refused, since it would let everybody pass. */
export function resolveTenantLists (reader: OptionReader, context: ListContext): CompiledLists {
  if (!reader.has('allow') && !reader.has('deny')) throw reader.error('allow', 'or "deny" is required')
  return resolveLists(reader, context)
}
