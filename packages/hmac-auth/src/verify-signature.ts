/**
 * Verifies a signature, in this order: what it says, what it covers, its time, its key, its MAC. Whoever has no key learns
 * nothing but that: an unknown key takes the same work as a wrong signature, and gets the same answer.
 */

import { createHash, hash, type Hash, type Hmac } from 'node:crypto'
import { isSameMac, isThenable, type Mac } from '@sallyport/guard'
import { invalid, refusal, type HmacAuthReason } from './errors.js'
import type { FindKeys } from './key-source.js'
import type { TrustedKey } from './keys.js'
import { cover, type BaseAroundBody, type PresentedSignature, type Profile, type SignedMessage } from './profile.js'
import { judgeTime, type TimeWindow } from './timestamps.js'

export interface VerifierRules {
  readonly profile: Profile
  readonly findKeys: FindKeys
  readonly window: TimeWindow
}

/** A signature that this key has made. */
export interface ProvedSignature {
  readonly presented: PresentedSignature
  readonly key: TrustedKey
}

/** A signature whose MAC goes over a body that is still to come: all else has been judged. */
export interface PendingSignature {
  readonly presented: PresentedSignature
  /** Keys of one id, and so of one identity. */
  readonly candidates: readonly TrustedKey[]
}

export type Verification = ProvedSignature | PendingSignature

export interface SignedRequest {
  readonly message: SignedMessage
  readonly hasBody: boolean
  /** Milliseconds since the epoch. */
  readonly now: number
}

/** Gives what is proved, or throws (or rejects with) an `AuthError`. At once where keys are at hand. */
export type VerifySignature = (request: SignedRequest) => Verification | Promise<Verification>

export function createSignatureVerifier ({ profile, findKeys, window }: VerifierRules): VerifySignature {
  return function verifySignature ({ message, hasBody, now }) {
    const presented = profile.read(message, hasBody)
    judgeCoverage(presented)
    judgeTime(presented, now, window)
    const candidates = findKeys(presented.keyId, now)
    return isThenable(candidates) ? judgeMacLater(presented, candidates, now) : judgeMac(presented, candidates, now)
  }
}

async function judgeMacLater (presented: PresentedSignature, candidates: PromiseLike<readonly TrustedKey[]>, now: number): Promise<Verification> {
  return judgeMac(presented, await candidates, now)
}

/** Throws for a signature that covers less than the floor, or not the body that came with it. */
function judgeCoverage ({ lacks }: PresentedSignature): void {
  if (lacks !== 0) throw refusal('ERR_HMAC_AUTH_COVERAGE_INSUFFICIENT', { reason: `not-covered-${lackingNames(lacks)[0]!}` as HmacAuthReason })
}

/** Names of what is not covered: `method`, `nonce`. */
export function lackingNames (lacks: number): readonly string[] {
  return Object.entries(cover).filter(([, bit]) => (lacks & bit) !== 0).map(([name]) => name)
}

function judgeMac (presented: PresentedSignature, candidates: readonly TrustedKey[], now: number): Verification {
  const { base } = presented
  if (typeof base !== 'string') return { presented, candidates }
  return { presented, key: keyThatMade(presented, candidates, now, base) }
}

/** The key that made the MAC: over this text, or what was computed for each key while the body came. All are tried unless one is right. */
function keyThatMade ({ algorithm, mac }: PresentedSignature, candidates: readonly TrustedKey[], now: number, signed: string | readonly Uint8Array[]): TrustedKey {
  for (let i = 0; i < candidates.length; i++) {
    const key = candidates[i]!
    const isRight = typeof signed === 'string' ? macFor(key, algorithm).isOf(signed, mac) : isSameMac({ computed: signed[i]!, presented: mac })
    if (!isRight || !key.isReal) continue
    if (algorithm !== undefined && key.macs[algorithm] === undefined) throw invalid('algorithm')
    if (now < key.notBeforeMs) throw invalid('key-early')
    if (now >= key.notAfterMs) throw invalid('key-expired')
    return key
  }
  throw invalid(candidates[0]!.isReal ? 'signature-wrong' : 'key-unknown')
}

/** An algorithm that the key does not serve costs what one that it serves costs, and proves nothing. */
function macFor (key: TrustedKey, algorithm: PresentedSignature['algorithm']): Mac {
  return (algorithm === undefined ? undefined : key.macs[algorithm]) ?? key.mac
}

/** Computes a MAC over a body as it comes. */
export interface BodyMac {
  /** `isWhole`: this is all of the body, and the MAC is computed in one go. */
  readonly update: (piece: Uint8Array, isWhole: boolean) => void
  /** The body has ended: gives the key that made the MAC, or throws an `AuthError`. Once. */
  readonly prove: (now: number) => TrustedKey
}

export function startBodyMac (signature: PendingSignature): BodyMac {
  const { body } = signature.presented.base as BaseAroundBody
  return body === 'bytes' ? startMacAroundBytes(signature) : startMacAroundDigest(signature, body)
}

function startMacAroundBytes ({ presented, candidates }: PendingSignature): BodyMac {
  const { before, after } = presented.base as BaseAroundBody
  const { algorithm } = presented
  let running: readonly Hmac[] | undefined
  let computed: readonly Uint8Array[] | undefined
  const start = (): readonly Hmac[] => candidates.map((key) => macFor(key, algorithm).start().update(before))
  return {
    update (piece, isWhole) {
      if (isWhole) {
        const signed = Buffer.concat([Buffer.from(before), piece, Buffer.from(after)])
        computed = candidates.map((key) => macFor(key, algorithm).of(signed))
        return
      }
      running ??= start()
      for (const mac of running) mac.update(piece)
    },
    prove: (now) => keyThatMade(presented, candidates, now, computed ?? (running ?? start()).map((mac) => mac.update(after).digest()))
  }
}

function startMacAroundDigest ({ presented, candidates }: PendingSignature, encoding: 'hex' | 'base64'): BodyMac {
  const { before, after } = presented.base as BaseAroundBody
  let running: Hash | undefined
  let digest: string | undefined
  return {
    update (piece, isWhole) {
      if (isWhole) digest = hash('sha256', piece, encoding)
      else (running ??= createHash('sha256')).update(piece)
    },
    prove: (now) => keyThatMade(presented, candidates, now, before + (digest ?? running?.digest(encoding) ?? hash('sha256', '', encoding)) + after)
  }
}

/** What is used up by a signature: its nonce, or the signature itself where there is none; of its key only. */
export function usedUpBy ({ keyId, nonce, mac }: PresentedSignature): string {
  if (nonce !== undefined) return `nonce:${keyId.length}:${keyId}:${nonce}`
  return `mac:${hash('sha256', `${keyId.length}:${keyId}:${Buffer.from(mac).toString('base64')}`, 'base64url')}`
}
