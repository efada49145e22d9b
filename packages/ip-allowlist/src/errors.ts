/** What ip-allowlist refuses with. */

import { defineRefusals, type RefusalEntry } from '@sallyport/guard'

export const ipAllowlistRefusals = {
  /** The address is on a deny list, on no allow list, of a family that is not served, or its tenant has no list. */
  ERR_IP_ALLOWLIST_ADDRESS_DENIED: { outcome: 'forbidden', message: 'Requests from this address are not allowed' },
  /** The request has no address, or a proxy gave something that is no IP literal. */
  ERR_IP_ALLOWLIST_ADDRESS_UNKNOWN: { outcome: 'forbidden', message: 'The address of this request can not be known' },
  /** A list could not be read and never was, or the tenant's lists are none. */
  ERR_IP_ALLOWLIST_LIST_UNAVAILABLE: { outcome: 'unavailable', message: 'The address can not be judged now' }
} as const satisfies Record<string, RefusalEntry>

export type IpAllowlistRefusalCode = keyof typeof ipAllowlistRefusals

/**
 * Reason codes behind the refusals; they reach decision events only.
 * `denied`, `not-allowed`, `family`, `list-missing`, `tenant-without-list`, `tenant-missing`, `no-address`, `no-literal`,
 * `list-unread`, `resolver`, `resolved-list`.
 */
export const refusal = defineRefusals<IpAllowlistRefusalCode>(ipAllowlistRefusals)
