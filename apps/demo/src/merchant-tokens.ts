/** Tokens of the payments gateway: pairs for merchants, and single ones for those who administer it. */

import type { StateStore } from '@sallyport/guard'
import type { KeyRings } from './key-rings.js'
import type { Merchants } from './merchants.js'
import { createRingTokens, type RingTokens } from './ring-tokens.js'

/** The claim that binds a token to its merchant. */
export const MERCHANT_CLAIM = 'merchant_id'

/** What stands in that claim for administrators. Merchants' ids are numbers. */
export const GATEWAY = 'gateway'

export const merchantScopes = ['transactions:read', 'transactions:write'] as const
export const ADMINISTRATOR_SCOPE = 'gateway:write'

const DAY_SECONDS = 86_400

export interface MerchantTokensOptions {
  readonly merchants: Merchants
  readonly keyRings: KeyRings
  readonly store: StateStore
  readonly clock?: (() => number) | undefined
}

export function createMerchantTokens ({ merchants, keyRings, store, clock }: MerchantTokensOptions): RingTokens {
  return createRingTokens({
    ring: () => keyRings.of('payments'),
    issuer: 'urn:sallyport:payments',
    audience: 'urn:sallyport:payments',
    store,
    tenantClaim: MERCHANT_CLAIM,
    refreshLifetimeSeconds: DAY_SECONDS,
    // Whoever lost the answer can log in again: merchants are servers that hold their secret. So a second use is always a sign of theft.
    retrySeconds: 0,
    isRefused ({ tenant = '', issuedAt = 0 }) {
      if (tenant === GATEWAY) return false
      const merchant = merchants.find(tenant)
      return merchant === undefined || issuedAt * 1000 <= (merchant.revokedAt?.getTime() ?? -Infinity)
    },
    clock
  })
}
