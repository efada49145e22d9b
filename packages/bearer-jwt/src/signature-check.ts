/** Whether a key signed a token: shared secrets by a MAC of our own (RFC 7518 section 3.2), public keys through the library. */

import { createMac, type MacAlgorithm } from '@sallyport/guard'
import type { Algorithm, TrustedKey } from './keys.js'
import type { ParsedToken } from './parse-token.js'
import { createLibraryCheck, openLibrary } from './private-jwt.js'

export type SignatureCheck = (token: ParsedToken) => boolean

/** For keys that come with the token. */
export type KeyedCheck = (token: ParsedToken, key: TrustedKey) => boolean

const macAlgorithms: Partial<Readonly<Record<Algorithm, MacAlgorithm>>> = { HS256: 'sha256', HS384: 'sha384', HS512: 'sha512' }

/** A check for each of these keys, made once. */
export async function createListedCheck (keys: readonly TrustedKey[]): Promise<KeyedCheck> {
  const checks = new Map<TrustedKey, SignatureCheck>()
  for (const key of keys) checks.set(key, createMacCheck(key) ?? ofToken(await createLibraryCheck(key)))
  return (token, key) => checks.get(key)!(token)
}

/** A check for keys of these algorithms that a resolver or a key set gives; it is made when a key comes first, and kept as long as the key is. */
export async function createKeyedCheck (algorithms: readonly Algorithm[]): Promise<KeyedCheck> {
  const checks = new WeakMap<TrustedKey, SignatureCheck>()
  const library = algorithms.every((algorithm) => algorithm in macAlgorithms) ? undefined : await openLibrary()
  return (token, key) => {
    let check = checks.get(key)
    if (check === undefined) checks.set(key, check = createMacCheck(key) ?? ofToken(library!(key)))
    return check(token)
  }
}

/** Nothing if the key is no shared secret. */
function createMacCheck ({ key, algorithm }: TrustedKey): SignatureCheck | undefined {
  const named = macAlgorithms[algorithm]
  if (named === undefined) return undefined
  const mac = createMac(named, key)
  return ({ signed, signature }) => mac.isOf(signed, Buffer.from(signature, 'base64url'))
}

function ofToken (check: (token: string) => boolean): SignatureCheck {
  return ({ token }) => check(token)
}
