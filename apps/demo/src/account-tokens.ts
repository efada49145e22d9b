/** Tokens of fulfilment accounts, for each environment: keys and issuer of their own, so that none is good in the other. */

import { createHmac } from 'node:crypto'
import type { IssuedToken } from '@sallyport/bearer-jwt'
import type { StateStore } from '@sallyport/guard'
import type { Accounts } from './accounts.js'
import { keyInUse, type KeyRings } from './key-rings.js'
import { createRingTokens, type RingTokens } from './ring-tokens.js'

export const environments = ['production', 'sandbox'] as const
export type FulfilmentEnvironment = typeof environments[number]

/** What a token of this system may allow; the operator's first token of an account allows all of it. */
export const fulfilmentScopes = ['orders:read', 'orders:write', 'secrets:write'] as const

/** The claim that binds a token to its account. */
export const ACCOUNT_CLAIM = 'account_slug'

export interface AccountTokensOptions {
  readonly accounts: Accounts
  readonly keyRings: KeyRings
  readonly store: StateStore
  readonly clock?: (() => number) | undefined
}

export interface AccountTokenRequest {
  readonly slug: string
  readonly scopes: readonly string[]
  readonly use?: 'bearer' | 'callback'
  readonly purpose?: string
  /** Takes part in the token as a keyed digest, and is forgotten. */
  readonly phrase?: string
}

export interface AccountTokens extends Pick<RingTokens, 'verification' | 'revoke' | 'list' | 'close'> {
  readonly issue: (request: AccountTokenRequest) => Promise<IssuedToken>
}

export function createAccountTokens (environment: FulfilmentEnvironment, { accounts, keyRings, store, clock }: AccountTokensOptions): AccountTokens {
  const { issue, ...tokens } = createRingTokens({
    ring: () => keyRings.of(environment),
    issuer: `urn:sallyport:fulfilment:${environment}`,
    audience: `urn:sallyport:fulfilment:${environment}`,
    store,
    tenantClaim: ACCOUNT_CLAIM,
    isRefused ({ tenant = '', issuedAt = 0 }) {
      const account = accounts.find(tenant)
      return account === undefined || issuedAt * 1000 <= (account.revokedAt?.getTime() ?? -Infinity)
    },
    clock
  })
  return Object.freeze({
    ...tokens,
    issue: async ({ slug, scopes, use = 'bearer', purpose, phrase }: AccountTokenRequest) => issue({
      subject: slug,
      tenant: slug,
      scopes,
      use: use === 'bearer' ? 'access' : 'callback',
      ...(purpose !== undefined && { purpose }),
      ...(phrase !== undefined && { claims: { phr: digestOf(phrase, slug) } })
    })
  })

  /** Nobody can try phrases against it: the key never leaves, and the digest stands only in the sealed token. */
  function digestOf (phrase: string, slug: string): string {
    return createHmac('sha256', keyInUse(keyRings.of(environment).signing).key).update(JSON.stringify(['secret phrase', slug, phrase])).digest('base64url')
  }
}
