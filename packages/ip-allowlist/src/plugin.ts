/** The Fastify side of ip-allowlist. */

import type { FastifyPluginAsync, FastifyRequest } from 'fastify'
import { askResolver, assertForwardingIsSafe, guardPluginOf, OptionReader, type AuthError, type Guard, type GuardContext, type Requirement } from '@sallyport/guard'
import { formatAddress, owner, parseAddress, type ParsedAddress } from './address.js'
import { refusal } from './errors.js'
import { familyOf, verifyAddress, type AddressLists, type CompiledLists, type Family } from './lists.js'
import { listNames, optionNames, resolveOptions, resolveTenantLists, type IpAllowlistOptions, type ResolvedOptions } from './options.js'

/** The address that was let pass. */
export interface IpAllowlistIdentity {
  /** Canonical text: dotted for IPv4 (also where it came IPv4-mapped), RFC 5952 for IPv6. */
  readonly address: string
  readonly family: Family
}

/** The guard as `app.ipAllowlist`. It is ambient: it judges where a request comes from, and proves nobody. */
export type IpAllowlistGuard = Guard<IpAllowlistIdentity>

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
  define ({ app, reader }: GuardContext) {
    const options = resolveOptions(reader)
    const { lists, source, rules: { families } } = options
    if (source === 'request') assertForwardingIsSafe(app, { owner, option: 'source', otherwise: 'use source: \'socket\'' })
    return {
      credentials: [],
      proves: [],
      missing: () => refusal('ERR_IP_ALLOWLIST_ADDRESS_UNKNOWN', { reason: 'no-address' }),
      isPresented: () => false,
      judge (request) {
        const address = readAddress(request, source)
        if (families?.includes(familyOf(address)) === false) throw refusal('ERR_IP_ALLOWLIST_ADDRESS_DENIED', { reason: 'family' })
        verifyAddress(address, lists)
        return { identity: Object.freeze({ address: formatAddress(address), family: familyOf(address) }) }
      },
      requirements: options.tenants === undefined ? [] : [tenantRequirement(options)]
    }
  }
})

function readAddress (request: FastifyRequest, source: 'request' | 'socket'): ParsedAddress {
  const text: unknown = source === 'request' ? request.ip : request.raw.socket.remoteAddress
  if (text === undefined) throw refusal('ERR_IP_ALLOWLIST_ADDRESS_UNKNOWN', { reason: 'no-address' })
  const address = parseAddress(text)
  if (address === undefined) throw refusal('ERR_IP_ALLOWLIST_ADDRESS_UNKNOWN', { reason: 'no-literal' })
  return address
}

function tenantRequirement (options: ResolvedOptions): Requirement<IpAllowlistIdentity> {
  const { tenants, tenantWithoutList } = options
  const verify = (address: ParsedAddress, found: CompiledLists | undefined): void => {
    if (found !== undefined) verifyAddress(address, found)
    else if (tenantWithoutList === 'deny') throw refusal('ERR_IP_ALLOWLIST_ADDRESS_DENIED', { reason: 'tenant-without-list' })
  }
  const compile = createListCompiler(options)
  return {
    description: `tenant lists (${tenantWithoutList} without)`,
    needsTenant: true,
    judge ({ identity }, { tenant }) {
      if (tenant === undefined) throw refusal('ERR_IP_ALLOWLIST_ADDRESS_DENIED', { reason: 'tenant-missing' })
      const address = parseAddress(identity.address)!
      if (typeof tenants !== 'function') { verify(address, tenants!.get(tenant)); return undefined }
      return askResolver(() => tenants(tenant), (answer) => { verify(address, compile(answer)) }, unreadable)
    }
  }
}

function unreadable (cause: unknown): AuthError {
  return refusal('ERR_IP_ALLOWLIST_LIST_UNAVAILABLE', { reason: 'resolver', cause })
}

/** Compiles what a resolver gives, once for each object. Anything but lists is a list that can't be read. */
function createListCompiler ({ rules }: ResolvedOptions): (answer: AddressLists | undefined) => CompiledLists | undefined {
  const compiled = new WeakMap<AddressLists, CompiledLists>()
  return (answer) => {
    if (answer === undefined) return undefined
    let lists = typeof answer === 'object' && answer !== null ? compiled.get(answer) : undefined
    if (lists !== undefined) return lists
    try {
      lists = resolveTenantLists(new OptionReader(owner, answer, listNames, 'tenants().'), rules)
    } catch (cause) {
      throw refusal('ERR_IP_ALLOWLIST_LIST_UNAVAILABLE', { reason: 'resolved-list', cause })
    }
    compiled.set(answer, lists)
    return lists
  }
}
