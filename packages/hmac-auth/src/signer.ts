/** The client's side: signs requests by the same profiles, and through the same code, by which servers verify them. */

import { hash, randomBytes, type KeyObject } from 'node:crypto'
import { createMac, OptionReader } from '@sallyport/guard'
import { explainMessage, type SignatureExplanation } from './explain.js'
import { hasLine, isKeyId, isNonce } from './field-lines.js'
import { readSecret } from './keys.js'
import { readProfile } from './options.js'
import { hashOf, type BaseAroundBody, type HmacAlgorithm, type Profile, type SignedMessage } from './profile.js'
import type { FieldLines } from './signature-base.js'
import { lackingNames } from './verify-signature.js'

const OWNER = 'createRequestSigner'
const optionNames = ['profile', 'keyId', 'secret', 'algorithm', 'clock', 'nonce']

export interface RequestSignerOptions {
  /** As on the server. Default: `rfc9421()`. */
  readonly profile?: Profile
  /** Names the key to the server. */
  readonly keyId: string
  /** The shared secret: bytes, or a secret `KeyObject`. Of any length: how long it must be is the server's to say. */
  readonly secret: Uint8Array | KeyObject
  /** Default: the profile's first. */
  readonly algorithm?: HmacAlgorithm
  /** Milliseconds since the epoch; for tests. Default: `Date.now`. */
  readonly clock?: () => number
  /** Makes each request unique; for tests. Default: 128 random bits. */
  readonly nonce?: () => string
}

export interface RequestToSign {
  /** Default: `GET`. */
  readonly method?: string
  /** Absolute, since the host is signed too. */
  readonly url: string | URL
  /** As they will be sent, content type and the like included; profiles may sign them. */
  readonly headers?: Readonly<Record<string, string>> | Headers
  /** Text is sent as UTF-8. Empty counts as none. A body that is not at hand brings its own digest header, such as `content-digest`. */
  readonly body?: string | Uint8Array
}

export interface RequestSigner {
  /** The headers to add to the request: signature, and the body's digest. Sign anew for each try; a signature counts once. */
  readonly sign: (request: RequestToSign) => Readonly<Record<string, string>>
  /** The string to sign of a request that carries the headers of `sign`, or else of the signature that it would get now. */
  readonly explainSignature: (request: RequestToSign) => SignatureExplanation
}

/** Creates a signer for one key. Throws `OptionsError`. What it can't sign as the profile asks, it throws a `TypeError` for. */
export function createRequestSigner (options: RequestSignerOptions): RequestSigner {
  const reader = new OptionReader(OWNER, options, optionNames)
  const profile = readProfile(reader)
  const keyId = reader.requiredText('keyId')
  if (!isKeyId(keyId)) throw reader.error('keyId', 'must be 1 to 256 visible ASCII characters, without quotes, commas and backslashes')
  const algorithm = reader.oneOf('algorithm', profile.algorithms, profile.algorithms[0]!)
  const mac = createMac(hashOf[algorithm], readSecret(reader, [algorithm], 1))
  const clock = reader.fn('clock', Date.now)
  const nonceOf = reader.fn('nonce', () => randomBytes(16).toString('base64url'))
  const placeholder = new Uint8Array(mac.length)

  function sign (request: RequestToSign): Readonly<Record<string, string>> {
    const nonce = nonceOf()
    if (!isNonce(nonce)) throw new TypeError('a nonce must be 1 to 256 printable ASCII characters')
    const facts = { keyId, algorithm, datedAtMs: clock(), nonce }
    const { message, digest } = draftOf(request, profile)
    // Written and read back: what a server will make of these fields is what gets signed.
    const { base, lacks } = profile.read(withFields(message, profile.write(message, facts, placeholder)), hasContent(request))
    if (lacks !== 0) throw new TypeError(`the signature would not cover: ${lackingNames(lacks).join(', ')}`)
    return Object.freeze({ ...digest, ...profile.write(message, facts, mac.of(wholeBase(base, request.body))) })
  }

  return Object.freeze({
    sign,
    explainSignature (request: RequestToSign) {
      const isSigned = profile.isPresented(linesOf(request.headers))
      const headers = new Headers(request.headers)
      if (!isSigned) for (const [name, value] of Object.entries(sign(request))) headers.set(name, value)
      return explainMessage(profile, draftOf({ ...request, headers }, profile).message, hasContent(request))
    }
  })
}

/** The message as it will be, but for the signature. */
function draftOf (request: RequestToSign, profile: Profile): { readonly message: SignedMessage, readonly digest: Readonly<Record<string, string>> } {
  const { method = 'GET', body = '' } = request
  const { protocol, host, pathname, search } = new URL(request.url)
  const fieldLines = linesOf(request.headers)
  const digest = digestOf(fieldLines, body, profile)
  return { message: withFields({ method, target: pathname + search, scheme: protocol.slice(0, -1), authority: host, fieldLines }, digest), digest }
}

function digestOf (fieldLines: FieldLines, body: string | Uint8Array, { digest }: Profile): Readonly<Record<string, string>> {
  if (digest === undefined || body.length === 0 || hasLine(fieldLines, digest.name)) return {}
  return { [digest.name]: digest.format(body) }
}

/** A body that brings its own digest counts as one, though it is not at hand. */
function hasContent ({ body = '' }: RequestToSign): boolean {
  return body.length > 0
}

function wholeBase (base: string | BaseAroundBody, body: string | Uint8Array = ''): string | Uint8Array {
  if (typeof base === 'string') return base
  const { before, after } = base
  if (base.body !== 'bytes') return before + hash('sha256', body, base.body) + after
  return Buffer.concat([Buffer.from(before), Buffer.from(body as Uint8Array), Buffer.from(after)])
}

/** Names in lower case, each once. */
function linesOf (headers: RequestToSign['headers'] = {}): FieldLines {
  return [...headers instanceof Headers ? headers : new Headers(headers)].flat()
}

function withFields (message: SignedMessage, fields: Readonly<Record<string, string>>): SignedMessage {
  return { ...message, fieldLines: [...message.fieldLines, ...Object.entries(fields).flat()] }
}

export interface SignedFetchOptions extends RequestSignerOptions {
  /** What sends the requests. Default: the global `fetch`. */
  readonly fetch?: typeof fetch
}

/**
 * A `fetch` that signs each request. Bodies are read into memory to be hashed, unless the request brings its digest header.
 * Redirects are not followed unless a request says so: another address would need another signature.
 * Throws `OptionsError`.
 */
export function signedFetch ({ fetch: send = fetch, ...options }: SignedFetchOptions): typeof fetch {
  const { sign } = createRequestSigner(options)
  const digestName = options.profile === undefined ? 'content-digest' : options.profile.digest?.name
  return async function fetchSigned (input, init) {
    const request = new Request(input, { redirect: 'manual', ...init })
    const { method, url, headers } = request
    const isAtHand = request.body === null || digestName === undefined || !headers.has(digestName)
    const body = request.body === null || !isAtHand ? undefined : new Uint8Array(await request.arrayBuffer())
    const signed = new Headers(headers)
    for (const [name, value] of Object.entries(sign({ method, url, headers, ...(body !== undefined && { body }) }))) signed.set(name, value)
    return send(new Request(request, { headers: signed, ...(body !== undefined && { body }) }))
  }
}
