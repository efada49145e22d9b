/** Reads a plugin's options: refuses unknown names, checks each value, and never keeps the caller's objects. */

import { isDate } from 'node:util/types'
import { OptionsError } from './errors.js'

/** Options that every plugin of the house takes, with the same name and the same meaning. */
export interface CommonOptions {
  /** The name of the guard on the Fastify instance. Default: the plugin's own name, such as `bearerJwt`. */
  readonly as?: string
  /** The realm named in challenges (RFC 9110 section 11.5): printable ASCII. Default: the realm of `guard`. */
  readonly realm?: string
  /** Milliseconds since the epoch; for tests. Default: `Date.now`. */
  readonly clock?: () => number
  /** Called with every decision of this registration. Must not throw; what it throws is dropped. */
  readonly onDecision?: (decision: Decision) => void
}

/** One decision, as published on `node:diagnostics_channel` (`sallyport:decision`) and given to `onDecision`. */
export interface Decision {
  /** The guard's name, such as `bearerJwt`. */
  readonly guard: string
  /** Fastify's id of the request, as its log lines have it. */
  readonly requestId: string
  readonly method: string
  /** The route's pattern (`/orders/:id`), never the URL of the request. */
  readonly route: string | undefined
  readonly outcome: 'passed' | 'absent' | 'rejected' | 'forbidden' | 'unavailable'
  /** The refusal's code; `undefined` when passed. */
  readonly code: string | undefined
  /** The true reason, from the closed set of the plugin; `undefined` when passed. */
  readonly reason: string | undefined
  /** The tenant, once proved. */
  readonly tenant: string | undefined
  /** Id of the key or rule that matched, where the guard knows one. */
  readonly matched: string | undefined
  /** What a guard, resolver or store threw, for `unavailable`; as it was thrown, so look before you log it. */
  readonly cause: unknown
  readonly durationMs: number
}

export const commonOptionNames = ['as', 'realm', 'clock', 'onDecision'] as const

export interface IntegerRule { readonly min: number, readonly max?: number, readonly unit?: string }

const LAST_INSTANT_MS = Date.UTC(9999, 11, 31, 23, 59, 59)

type Values = Readonly<Record<string, unknown>>

/** Reads options one by one. Every method throws an `OptionsError` that names the option and the rule. */
export class OptionReader {
  readonly owner: string
  readonly #values: Values
  readonly #path: string

  /**
   * @param owner the package's name, as it stands in messages
   * @param options what the caller gave; `undefined` counts as `{}`
   * @param names every name this package knows
   * @param path where these options stand inside others: `keys[0].`
   */
  constructor (owner: string, options: unknown, names: readonly string[], path = '') {
    this.owner = owner
    this.#path = path
    const given: unknown = options === undefined ? {} : options
    if (given === null || typeof given !== 'object' || Array.isArray(given)) throw new OptionsError(owner, path.replace(/\.$/, '') || 'options', 'must be an object')
    for (const name of Object.keys(given)) {
      if (!names.includes(name)) throw new OptionsError(owner, path + name, `is unknown; known are: ${names.join(', ')}`)
    }
    this.#values = Object.freeze({ ...given })
  }

  /** The value as it was given, unchecked. */
  raw (name: string): unknown {
    return this.#values[name]
  }

  /** The option as messages name it: `tenants.100001.allow`. */
  pathOf (name: string): string {
    return this.#path + name
  }

  has (name: string): boolean {
    return this.#values[name] !== undefined
  }

  /** An error about this option, for rules that only its package knows. */
  error (name: string, rule: string): OptionsError {
    return new OptionsError(this.owner, this.#path + name, rule)
  }

  text (name: string, fallback: string): string
  text (name: string): string | undefined
  text (name: string, fallback?: string): string | undefined {
    const value = this.#values[name]
    if (value === undefined) return fallback
    if (typeof value !== 'string' || value === '') throw this.error(name, 'must be a non-empty string')
    return value
  }

  requiredText (name: string): string {
    const value = this.text(name)
    if (value === undefined) throw this.error(name, 'is required')
    return value
  }

  flag (name: string, fallback: boolean): boolean {
    const value = this.#values[name]
    if (value === undefined) return fallback
    if (typeof value !== 'boolean') throw this.error(name, 'must be true or false')
    return value
  }

  integer (name: string, rule: IntegerRule, fallback: number): number
  integer (name: string, rule: IntegerRule): number | undefined
  integer (name: string, rule: IntegerRule, fallback?: number): number | undefined {
    const value = this.#values[name]
    if (value === undefined) return fallback
    const max = rule.max ?? Number.MAX_SAFE_INTEGER
    if (!Number.isSafeInteger(value) || (value as number) < rule.min || (value as number) > max) {
      const upTo = rule.max === undefined ? 'or more' : `to ${rule.max}`
      throw this.error(name, `must be a whole number, ${rule.min} ${upTo}`)
    }
    return value as number
  }

  /** A `Date` with a year of four digits, as HTTP can write it; given as milliseconds since the epoch. */
  instant (name: string): number | undefined {
    const value = this.#values[name]
    if (value === undefined) return undefined
    const ms = isDate(value) ? value.getTime() : NaN
    if (!(ms >= 0 && ms <= LAST_INSTANT_MS)) throw this.error(name, 'must be a valid Date between 1970 and 9999')
    return ms
  }

  oneOf<T extends string> (name: string, choices: readonly T[], fallback: T): T
  oneOf<T extends string> (name: string, choices: readonly T[]): T | undefined
  oneOf<T extends string> (name: string, choices: readonly T[], fallback?: T): T | undefined {
    const value = this.#values[name]
    if (value === undefined) return fallback
    if (!choices.includes(value as T)) throw this.error(name, `must be one of: ${choices.join(', ')}`)
    return value as T
  }

  fn<F> (name: string, fallback: F): F
  fn<F> (name: string): F | undefined
  fn<F> (name: string, fallback?: F): F | undefined {
    const value = this.#values[name]
    if (value === undefined) return fallback
    if (typeof value !== 'function') throw this.error(name, 'must be a function')
    return value as F
  }

  /** A list of non-empty, different strings; an empty list is refused. */
  texts (name: string): readonly string[] | undefined {
    const value = this.#values[name]
    if (value === undefined) return undefined
    if (!Array.isArray(value) || value.length === 0) throw this.error(name, 'must be a non-empty list of strings')
    if (!value.every((item) => typeof item === 'string' && item !== '')) throw this.error(name, 'must hold non-empty strings only')
    if (new Set(value).size !== value.length) throw this.error(name, 'must not hold the same value twice')
    return Object.freeze([...value as string[]])
  }

  /** A list of anything; an empty list is refused. */
  list (name: string): readonly unknown[] | undefined {
    const value = this.#values[name]
    if (value === undefined) return undefined
    if (!Array.isArray(value) || value.length === 0) throw this.error(name, 'must be a non-empty list')
    return Object.freeze([...value as unknown[]])
  }

  /** The options inside an option, or inside the item at `index` of a list. */
  nested (name: string, names: readonly string[], index?: number): OptionReader {
    const value = this.#values[name]
    const at = index === undefined ? name : `${name}[${index}]`
    return new OptionReader(this.owner, index === undefined ? value : (value as readonly unknown[])[index], names, `${this.#path}${at}.`)
  }

  /** A realm: printable ASCII, quoted and escaped in challenges. */
  realm (fallback: string): string {
    const value = this.text('realm', fallback)
    if (!/^[\x20-\x7e]+$/.test(value)) throw this.error('realm', 'must be printable ASCII')
    return value
  }
}
