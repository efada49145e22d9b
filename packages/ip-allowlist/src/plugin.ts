/** The Fastify side of ip-allowlist. */

import type { FastifyPluginAsync } from 'fastify'
import {
  askResolver, assertForwardingIsSafe, BoundedCache, guardPluginOf, isThenable, OptionReader, type AuthError, type Guard, type GuardContext,
  type Judgement, type Requirement
} from '@sallyport/guard'
import { familyOf, formatAddress, owner, parseAddress, type Family, type ParsedAddress } from './address.js'
import { refusal } from './errors.js'
import { resolveLists, verifyAddress, type AddressLists, type CompiledLists } from './lists.js'
import {
  listNames, optionNames, resolveOptions, resolveTenantLists, type IpAllowlistOptions, type IpAllowlistRequirements, type ResolvedOptions
} from './options.js'

/** The address that was let pass. */
export interface IpAllowlistIdentity {
  /** Canonical text: dotted for IPv4 (also where it came IPv4-mapped), RFC 5952 for IPv6. */
  readonly address: string
  readonly family: Family
}

/** The guard as `app.ipAllowlist`. It is ambient: it judges where a request comes from, and proves nobody. */
export type IpAllowlistGuard = Guard<IpAllowlistIdentity, IpAllowlistRequirements>

declare module 'fastify' {
  interface FastifyInstance {
    /** Judges the address of a request; see `@sallyport/ip-allowlist`. */
    ipAllowlist: IpAllowlistGuard
  }
}

/**
 * Registers a guard for address lists as `app.ipAllowlist` (or under the name `as`).
 * Throws `OptionsError` for wrong options and entries, a name that is taken, and a `trustProxy` that would let clients choose
 * their own address.
 */
export const ipAllowlist: FastifyPluginAsync<IpAllowlistOptions> = guardPluginOf<IpAllowlistOptions, IpAllowlistIdentity>({
  owner,
  name: 'ipAllowlist',
  optionNames,
  async define ({ app, reader, clock }: GuardContext) {
    const options = resolveOptions(reader, clock)
    const { lists, source, context: { rules: { families }, live } } = options
    if (source === 'request') assertForwardingIsSafe(app, { owner, option: 'source', otherwise: 'use source: \'socket\'' })
    if (live !== undefined) {
      app.addHook('onClose', async () => { live.close() })
      await live.open(namesIn(options))
    }
    return {
      credentials: [],
      proves: [],
      notes: lists.names.length === 0 ? [] : [`named lists: ${lists.names.join(', ')}`],
      missing: () => refusal('ERR_IP_ALLOWLIST_ADDRESS_UNKNOWN', { reason: 'no-address' }),
      isPresented: () => false,
      judge (request) {
        const caller = readCaller(source === 'request' ? request.ip : request.raw.socket.remoteAddress)
        if (families?.includes(caller.identity.family) === false) throw refusal('ERR_IP_ALLOWLIST_ADDRESS_DENIED', { reason: 'family' })
        const verdict = verifyAddress(caller.parsed, lists, 'deny')
        return isThenable(verdict) ? verdict.then(() => caller) : caller
      },
      requirementNames: ['list'],
      requirement: (given) => listRequirement(given, options),
      requirements: options.tenants === undefined ? [] : [tenantRequirement(options)]
    }
  }
})

/** The lists that are known by name beforehand, to be read before the first request. */
function namesIn ({ lists, tenants }: ResolvedOptions): readonly string[] {
  const known = tenants instanceof Map ? [lists, ...(tenants as ReadonlyMap<string, CompiledLists>).values()] : [lists]
  return known.flatMap(({ names }) => names)
}

/** An address as guard is told of it, and as lists are asked for it. */
interface Caller extends Judgement<IpAllowlistIdentity> {
  readonly parsed: ParsedAddress
}

/** The longest IP literal has 45 characters; a zone id may follow. */
const LONGEST_REMEMBERED = 64
/** Callers come from the same addresses again and again: how these are read is remembered, and nothing of what lists say of them. */
const callers = new BoundedCache<Caller>(1_000)

function readCaller (text: unknown): Caller {
  if (typeof text !== 'string') throw refusal('ERR_IP_ALLOWLIST_ADDRESS_UNKNOWN', { reason: text === undefined ? 'no-address' : 'no-literal' })
  const known = callers.get(text)
  if (known !== undefined) return known
  const parsed = parseAddress(text)
  if (parsed === undefined) throw refusal('ERR_IP_ALLOWLIST_ADDRESS_UNKNOWN', { reason: 'no-literal' })
  const caller = Object.freeze({ identity: Object.freeze({ address: formatAddress(parsed), family: familyOf(parsed) }), parsed: Object.freeze({ ...parsed, words: Object.freeze(parsed.words) }) })
  if (text.length <= LONGEST_REMEMBERED) callers.set(text, caller)
  return caller
}

/** `require({ list })`: the address must be on this list too. */
function listRequirement (given: OptionReader, { context }: ResolvedOptions): Requirement<IpAllowlistIdentity> | undefined {
  const list = given.text('list')
  if (list === undefined) return undefined
  if (context.live === undefined) throw given.error('list', 'needs the option "store" of the registration')
  const lists = resolveLists(new OptionReader(owner, { allow: { list } }, listNames), context)
  return {
    description: `list: ${list}`,
    judge: (judgement) => verifyAddress((judgement as Caller).parsed, lists, 'deny')
  }
}

function tenantRequirement (options: ResolvedOptions): Requirement<IpAllowlistIdentity> {
  const { tenants, tenantWithoutList } = options
  const verify = (address: ParsedAddress, found: CompiledLists | undefined): void | Promise<void> => {
    if (found !== undefined) return verifyAddress(address, found, tenantWithoutList)
    if (tenantWithoutList === 'deny') throw refusal('ERR_IP_ALLOWLIST_ADDRESS_DENIED', { reason: 'tenant-without-list' })
  }
  const compile = createListCompiler(options)
  return {
    description: `tenant lists (${tenantWithoutList} without)`,
    needsTenant: true,
    judge (judgement, { tenant }) {
      if (tenant === undefined) throw refusal('ERR_IP_ALLOWLIST_ADDRESS_DENIED', { reason: 'tenant-missing' })
      const address = (judgement as Caller).parsed
      if (typeof tenants !== 'function') return verify(address, tenants!.get(tenant))
      return askResolver(() => tenants(tenant), (answer) => verify(address, compile(answer)), unreadable) as void | Promise<void>
    }
  }
}

function unreadable (cause: unknown): AuthError {
  return refusal('ERR_IP_ALLOWLIST_LIST_UNAVAILABLE', { reason: 'resolver', cause })
}

/** Compiles what a resolver gives, once for each object. Anything but lists is a list that can't be read. */
function createListCompiler ({ context }: ResolvedOptions): (answer: AddressLists | undefined) => CompiledLists | undefined {
  const compiled = new WeakMap<AddressLists, CompiledLists>()
  return (answer) => {
    if (answer === undefined) return undefined
    let lists = typeof answer === 'object' && answer !== null ? compiled.get(answer) : undefined
    if (lists !== undefined) return lists
    try {
      lists = resolveTenantLists(new OptionReader(owner, answer, listNames, 'tenants().'), context)
    } catch (cause) {
      throw refusal('ERR_IP_ALLOWLIST_LIST_UNAVAILABLE', { reason: 'resolved-list', cause })
    }
    compiled.set(answer, lists)
    return lists
  }
}
