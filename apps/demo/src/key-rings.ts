/** The keys that this demo signs and seals its own tokens with: one ring for each system and environment, rotated by command. */

import { createSecretKey, randomBytes, type KeyObject } from 'node:crypto'
import { OptionReader, type Lifetime } from '@sallyport/guard'
import { openRegisterFile, readMoment } from './register-file.js'
import { openSealingKey, seal, unseal } from './sealing.js'

/** Each ring, and whether its tokens are sealed as well as signed. */
const rings = { production: 'sealed', sandbox: 'sealed', commerce: 'signed', payments: 'signed' } as const
export type RingName = keyof typeof rings
export const ringNames = Object.keys(rings) as readonly RingName[]

/** 32 secret bytes. With an end it is retired; the one without is in use. */
export interface RingKey extends Lifetime {
  /** Sent as `kid`; names the key in decision events. */
  readonly id: string
  readonly key: KeyObject
}

export interface KeyRing {
  /** HS256. */
  readonly signing: readonly RingKey[]
  /** `dir` with A256GCM. Empty where tokens are signed only. */
  readonly encryption: readonly RingKey[]
}

export interface KeyRings {
  /** As the file has it now. The same object until the file changes. */
  readonly of: (name: RingName) => KeyRing
  /** New keys from now on; tokens of the old ones are good for `overlapMs` more. */
  readonly rotate: (rotation: { readonly name: RingName, readonly overlapMs: number }) => Promise<KeyRing>
}

export interface KeyRingsOptions {
  readonly folder: string
  /** Milliseconds since the epoch. Default: `Date.now`. */
  readonly clock?: (() => number) | undefined
  readonly onUnreadable?: ((error: unknown) => void) | undefined
}

const KEY_BYTES = 32
const OWNER = 'key register'

type Rings = Readonly<Record<RingName, KeyRing>>

/** Opens the rings of a data folder; in an empty folder it makes them. */
export async function openKeyRings ({ folder, clock = Date.now, onUnreadable }: KeyRingsOptions): Promise<KeyRings> {
  const sealingKey = await openSealingKey({ folder, name: 'keys' })
  const file = await openRegisterFile<Rings>({
    folder, name: 'keys', parse: (text) => parseRings(text, sealingKey), format: (content) => formatRings(content, sealingKey), first: firstRings, onUnreadable
  })
  return Object.freeze({
    of: (name: RingName) => file.current()[name],
    rotate: async ({ name, overlapMs }: { readonly name: RingName, readonly overlapMs: number }) => file.change((content) => {
      const now = clock()
      const { signing, encryption } = content[name]
      const result = { signing: rotated(signing, now, overlapMs), encryption: encryption.length === 0 ? [] : rotated(encryption, now, overlapMs) }
      return { content: { ...content, [name]: result }, result }
    })
  })
}

export function keyInUse (keys: readonly RingKey[]): RingKey {
  const key = keys.find(({ notAfter }) => notAfter === undefined)
  if (key === undefined) throw new Error(`the ${OWNER} has no key in use`)
  return key
}

/** All keys end with the overlap at the latest, and a new one is in use. */
function rotated (keys: readonly RingKey[], now: number, overlapMs: number): readonly RingKey[] {
  const ending = keys.map((key) => ({ ...key, notAfter: new Date(Math.min(now + overlapMs, key.notAfter?.getTime() ?? Infinity)) }))
  return [...ending.filter(({ notAfter }) => notAfter.getTime() > now), newKey()]
}

function newKey (): RingKey {
  return { id: randomBytes(6).toString('hex'), key: createSecretKey(randomBytes(KEY_BYTES)) }
}

function eachRing (ringOf: (name: RingName) => KeyRing): Rings {
  return Object.freeze(Object.fromEntries(ringNames.map((name) => [name, ringOf(name)])) as Record<RingName, KeyRing>)
}

function firstRings (): Rings {
  return eachRing((name) => ({ signing: [newKey()], encryption: rings[name] === 'sealed' ? [newKey()] : [] }))
}

function formatRings (content: Rings, sealingKey: KeyObject): string {
  const entryOf = (owner: readonly string[]) => ({ id, key, notAfter }: RingKey): object => ({ id, sealed: seal(key, sealingKey, [...owner, id]), notAfter })
  const entries = Object.entries(content).map(([name, { signing, encryption }]) => {
    return [name, { signing: signing.map(entryOf([name, 'signing'])), encryption: encryption.map(entryOf([name, 'encryption'])) }]
  })
  return `${JSON.stringify(Object.fromEntries(entries), undefined, 2)}\n`
}

function parseRings (text: string, sealingKey: KeyObject): Rings {
  const reader = new OptionReader(OWNER, JSON.parse(text), ringNames)
  return eachRing((name) => {
    const ring = reader.nested(name, ['signing', 'encryption'])
    const keysOf = (use: 'signing' | 'encryption'): readonly RingKey[] => {
      const given = ring.raw(use)
      if (!Array.isArray(given)) throw ring.error(use, 'must be a list')
      return given.map((_key, i) => readKey(ring.nested(use, ['id', 'sealed', 'notAfter'], i), sealingKey, [name, use]))
    }
    const [signing, encryption] = [keysOf('signing'), keysOf('encryption')]
    keyInUse(signing)
    // A file without keys to seal with must not make tokens that lie open.
    if (rings[name] === 'sealed') keyInUse(encryption)
    return Object.freeze({ signing, encryption })
  })
}

function readKey (reader: OptionReader, sealingKey: KeyObject, owner: readonly string[]): RingKey {
  const [id, sealed, notAfter] = [reader.requiredText('id'), reader.requiredText('sealed'), readMoment(reader, 'notAfter')]
  try {
    const key = unseal(sealed, sealingKey, { owner: [...owner, id], minimumBytes: KEY_BYTES })
    return Object.freeze({ id, key, ...(notAfter !== undefined && { notAfter }) })
  } catch (error) {
    throw reader.error('sealed', (error as Error).message)
  }
}
