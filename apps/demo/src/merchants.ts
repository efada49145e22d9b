/** The register of merchants: a file that the operator's commands change and the running server follows. */

import { createSecretKey, randomBytes, timingSafeEqual } from 'node:crypto'
import { join } from 'node:path'
import type { ResolvedKey } from '@sallyport/hmac-auth'
import { formatMerchants, hashClientSecret, MAX_CREDENTIALS, parseMerchants, type Merchant, type MerchantCredential } from './merchant-file.js'
import { ensureFolder, readIfThere, replaceFile } from './private-files.js'
import { openRegisterFile } from './register-file.js'
import { openSealingKey } from './sealing.js'

export interface Merchants {
  /** A merchant as the register has it now. */
  readonly find: (id: string) => Merchant | undefined
  /** The HMAC key of that id, whether it counts at this time or not. */
  readonly findKey: (keyId: string) => ResolvedKey | undefined
  /** The merchant whose login this is. */
  readonly authenticate: (login: { readonly clientId: string, readonly clientSecret: string }) => Merchant | undefined
  readonly list: () => readonly Merchant[]
  /** A new merchant, and what it is given, which nothing shows again. */
  readonly add: (name: string) => Promise<Onboarded>
  /** A further secret and key; those before them count for `overlapMs` more. */
  readonly rotate: (rotation: { readonly id: string, readonly overlapMs: number }) => Promise<Onboarded>
  /** Ends all tokens that the merchant has by now. */
  readonly revokeTokens: (id: string) => Promise<void>
}

/** What the merchant is told, once. */
export interface Onboarded {
  readonly merchant: Merchant
  readonly clientSecret: string
  readonly keyId: string
  /** Text; its bytes are the HMAC key. */
  readonly keySecret: string
}

export interface MerchantsOptions {
  readonly folder: string
  /** Milliseconds since the epoch. Default: `Date.now`. */
  readonly clock?: (() => number) | undefined
  /** Told once for each text of the register that can't be read; the last good one stays in force. */
  readonly onUnreadable?: ((error: unknown) => void) | undefined
}

type Register = ReadonlyMap<string, Merchant>

/** Opens the register of a data folder; in an empty folder it makes one with two merchants to try things with. */
export async function openMerchants ({ folder, clock = Date.now, onUnreadable }: MerchantsOptions): Promise<Merchants> {
  const sealingKey = await openSealingKey({ folder, name: 'merchants' })
  const file = await openRegisterFile<Register>({
    folder,
    name: 'merchants',
    parse: (text) => parseMerchants(text, sealingKey),
    format: (merchants) => formatMerchants(merchants.values(), sealingKey),
    first: () => firstMerchants(folder, clock()),
    onUnreadable
  })

  async function edit<T extends { readonly merchant: Merchant }> (id: string, edited: (merchant: Merchant) => T): Promise<T> {
    return file.change((merchants) => {
      const merchant = merchants.get(id)
      if (merchant === undefined) throw new Error(`there is no merchant ${id}`)
      const result = edited(merchant)
      return { content: new Map(merchants).set(id, result.merchant), result }
    })
  }

  return Object.freeze({
    find: (id: string) => file.current().get(id),

    findKey (keyId: string) {
      for (const merchant of file.current().values()) {
        const found = merchant.credentials.find((credential) => credential.keyId === keyId)
        if (found !== undefined) return { secret: found.key, tenant: merchant.id, ...found.lifetime }
      }
      return undefined
    },

    authenticate ({ clientId, clientSecret }: { readonly clientId: string, readonly clientSecret: string }) {
      const hashed = Buffer.from(hashClientSecret(clientSecret))
      const merchant = file.current().get(clientId)
      const isRight = merchant?.credentials.some((credential) => isLiveAt(credential, clock()) && timingSafeEqual(Buffer.from(credential.clientSecretHash), hashed))
      return isRight === true ? merchant : undefined
    },

    list: () => [...file.current().values()],

    add: async (name: string) => file.change((merchants) => {
      const id = String(Math.max(FIRST_ID - 1, ...[...merchants.keys()].map(Number)) + 1)
      const result = onboarded({ id, name, credentials: [] }, clock())
      return { content: new Map(merchants).set(id, result.merchant), result }
    }),

    rotate: async ({ id, overlapMs }: { readonly id: string, readonly overlapMs: number }) => edit(id, (merchant) => {
      const now = clock()
      const kept = merchant.credentials.map((old) => endingBy(old, now + overlapMs)).filter((old) => isLiveAt(old, now))
      if (kept.length >= MAX_CREDENTIALS) throw new Error(`merchant ${id} has ${kept.length} live secrets already; rotate with a shorter overlap`)
      return onboarded({ ...merchant, credentials: kept }, now)
    }),

    async revokeTokens (id: string) {
      await edit(id, (merchant) => ({ merchant: { ...merchant, revokedAt: new Date(Math.floor(clock() / 1000) * 1000) } }))
    }
  })
}

const FIRST_ID = 300_001

/** The merchant with a secret and a key more: both hexadecimal, safe in headers, shells and JSON alike. */
function onboarded (merchant: Merchant, now: number): Onboarded {
  const [clientSecret, keySecret] = [randomBytes(32).toString('hex'), randomBytes(32).toString('hex')]
  const keyId = `key-${randomBytes(6).toString('hex')}`
  const credential = { keyId, key: createSecretKey(Buffer.from(keySecret)), clientSecretHash: hashClientSecret(clientSecret), lifetime: { notBefore: new Date(now) } }
  return { merchant: { ...merchant, credentials: [...merchant.credentials, credential] }, clientSecret, keyId, keySecret }
}

function isLiveAt ({ lifetime: { notBefore, notAfter } }: MerchantCredential, nowMs: number): boolean {
  return nowMs >= (notBefore?.getTime() ?? -Infinity) && nowMs < (notAfter?.getTime() ?? Infinity)
}

function endingBy (credential: MerchantCredential, latest: number): MerchantCredential {
  const { lifetime } = credential
  return { ...credential, lifetime: { ...lifetime, notAfter: new Date(Math.min(latest, lifetime.notAfter?.getTime() ?? Infinity)) } }
}

/** Two merchants to try things with. What they were told lies in files, as it would on their own machines. */
function firstMerchants (folder: string, now: number): Register {
  return new Map(['Fjord Tickets', 'Havn Ferries'].map((name, i) => {
    const told = onboarded({ id: String(FIRST_ID + i), name, credentials: [] }, now)
    const { merchant: { id }, clientSecret, keySecret } = told
    const files = filesOf(folder, id)
    ensureFolder(files.folder)
    replaceFile(files.login, `${JSON.stringify({ client_id: id, client_secret: clientSecret })}\n`)
    replaceFile(files.keySecret, `${keySecret}\n`)
    return [id, told.merchant]
  }))
}

export interface MerchantFiles {
  /** Ready to be sent to `auth/token`. */
  readonly login: string
  /** For `hmac-auth sign --secret-file`. */
  readonly keySecret: string
}

function filesOf (folder: string, id: string): MerchantFiles & { readonly folder: string } {
  const own = join(folder, 'merchants', id)
  return { folder: own, login: join(own, 'login.json'), keySecret: join(own, 'hmac.secret') }
}

/** Where the login and the secret of an example merchant lie; `undefined` once they were removed. */
export function findMerchantFiles (folder: string, id: string): MerchantFiles | undefined {
  const { login, keySecret } = filesOf(folder, id)
  return [login, keySecret].some((path) => readIfThere(path) === undefined) ? undefined : { login, keySecret }
}
