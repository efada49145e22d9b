/** The Fastify side of ip-allowlist. */

import type { FastifyPluginAsync, FastifyRequest } from 'fastify'
import {
  askResolver, assertForwardingIsSafe, guardPluginOf, isThenable, OptionReader, type AuthError, type Guard, type GuardContext, type Requirement
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
        const address = readAddress(request, source)
        if (families?.includes(familyOf(address)) === false) throw refusal('ERR_IP_ALLOWLIST_ADDRESS_DENIED', { reason: 'family' })
        const identity = { identity: Object.freeze({ address: formatAddress(address), family: familyOf(address) }) }
        const verdict = verifyAddress(address, lists, 'deny')
        return isThenable(verdict) ? verdict.then(() => identity) : identity
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

function readAddress (request: FastifyRequest, source: 'request' | 'socket'): ParsedAddress {
  const text: unknown = source === 'request' ? request.ip : request.raw.socket.remoteAddress
  if (text === undefined) throw refusal('ERR_IP_ALLOWLIST_ADDRESS_UNKNOWN', { reason: 'no-address' })
  const address = parseAddress(text)
  if (address === undefined) throw refusal('ERR_IP_ALLOWLIST_ADDRESS_UNKNOWN', { reason: 'no-literal' })
  return address
}

/** `require({ list })`: the address must be on this list too. */
function listRequirement (given: OptionReader, { context }: ResolvedOptions): Requirement<IpAllowlistIdentity> | undefined {
  const list = given.text('list')
  if (list === undefined) return undefined
  if (context.live === undefined) throw given.error('list', 'needs the option "store" of the registration')
  const lists = resolveLists(new OptionReader(owner, { allow: { list } }, listNames), context)
  return {
    description: `list: ${list}`,
    judge: ({ identity }) => verifyAddress(parseAddress(identity.address)!, lists, 'deny')
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
    judge ({ identity }, { tenant }) {
      if (tenant === undefined) throw refusal('ERR_IP_ALLOWLIST_ADDRESS_DENIED', { reason: 'tenant-missing' })
      const address = parseAddress(identity.address)!
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
