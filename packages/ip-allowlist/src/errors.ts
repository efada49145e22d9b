/** What ip-allowlist refuses with, and what its management API answers with when it can't do what it is asked. */

import { defineRefusals, type RefusalEntry } from '@sallyport/guard'

export const ipAllowlistRefusals = {
  /** The address is on a deny list, on no allow list, of a family that is not served, or its tenant has no list. */
  ERR_IP_ALLOWLIST_ADDRESS_DENIED: { outcome: 'forbidden', message: 'Requests from this address are not allowed' },
  /** The request has no address, or a proxy gave something that is no IP literal. */
  ERR_IP_ALLOWLIST_ADDRESS_UNKNOWN: { outcome: 'forbidden', message: 'The address of this request can not be known' },
  /** A list could not be read and never was, the tenant's lists are none, or the management API can't reach the store. */
  ERR_IP_ALLOWLIST_LIST_UNAVAILABLE: { outcome: 'unavailable', message: 'The list can not be read now' }
} as const satisfies Record<string, RefusalEntry>

export type IpAllowlistRefusalCode = keyof typeof ipAllowlistRefusals

/**
 * Reason codes behind the refusals; they reach decision events only.
 * `denied`, `not-allowed`, `family`, `list-missing`, `tenant-without-list`, `tenant-missing`, `no-address`, `no-literal`,
 * `list-unread`, `resolver`, `resolved-list`, `store`.
 */
export const refusal = defineRefusals<IpAllowlistRefusalCode>(ipAllowlistRefusals)

/** Answers of the management API beside those refusals. */
export const allowlistRoutesErrors = {
  /** The name, the body, the query or a conditional header is not of the form that the API takes. */
  ERR_IP_ALLOWLIST_REQUEST_INVALID: { statusCode: 400, message: 'The request is not of the form that is needed' },
  /** The store has no such list, or it is not managed here. */
  ERR_IP_ALLOWLIST_LIST_UNKNOWN: { statusCode: 404, message: 'There is no such list' },
  /** The caller's own address would not pass any more, and `force=true` was not said. */
  ERR_IP_ALLOWLIST_CALLER_EXCLUDED: { statusCode: 409, message: 'The change would shut out your own address; say force=true if that is meant' },
  /** The list is not what `If-Match` or `If-None-Match` expects (RFC 9110 section 15.5.13). */
  ERR_IP_ALLOWLIST_VERSION_CONFLICT: { statusCode: 412, message: 'The list has changed; read it again' },
  /** An entry is none, is not on the list that it shall be taken off, or there are too many. */
  ERR_IP_ALLOWLIST_ENTRIES_INVALID: { statusCode: 422, message: 'The entries can not be taken' },
  /** The request replaces or removes a list and does not say which version (RFC 6585 section 3). */
  ERR_IP_ALLOWLIST_VERSION_REQUIRED: { statusCode: 428, message: 'If-Match is required, or If-None-Match: * for a new list' }
} as const

export type AllowlistRoutesErrorCode = keyof typeof allowlistRoutesErrors

/** An answer of the management API. `detail` may name places in what the client sent, never what stands there. */
export function routesError (code: AllowlistRoutesErrorCode, detail?: string): Error {
  const { statusCode, message } = allowlistRoutesErrors[code]
  return Object.assign(new Error(detail ?? message), { code, statusCode })
}
