/** What the environment says, checked once and frozen. An empty variable counts as one that is not set. */

import { isIP } from 'node:net'
import { resolve } from 'node:path'
import { parseEntry } from '@sallyport/ip-allowlist'

/** The folder of this app, whether it runs from `src` or from `dist`. */
export const appFolder = resolve(import.meta.dirname, '..')

const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const

/** The way out of the legacy headers. */
export interface LegacyCalendar {
  readonly deprecatedAt: Date
  readonly sunsetAt: Date
  /** An HTML page that says what to do instead. */
  readonly link: string
  readonly brownouts: readonly { readonly from: Date, readonly to: Date }[]
}

export interface Config {
  readonly port: number
  readonly host: string
  /** An absolute path. */
  readonly dataFolder: string
  /** False: TLS ends at a proxy in front of this server. */
  readonly tls: boolean
  /** Addresses and networks of the proxies whose `X-Forwarded-*` headers count. Empty: nobody's do. */
  readonly trustProxy: readonly string[]
  /** A PostgreSQL server; without it, an embedded database in the data folder. */
  readonly databaseUrl: string | undefined
  /** Where one-shot tokens, revocations and metadata of tokens are remembered; without it, in the database. */
  readonly redisUrl: string | undefined
  readonly logLevel: typeof logLevels[number]
  readonly legacy: LegacyCalendar
}

export type Environment = Readonly<Record<string, string | undefined>>

/** Where the demo keeps its files: `DATA_DIR`, relative to the app's folder and not to where it was started. */
export function readDataFolder (env: Environment): string {
  return resolve(appFolder, env['DATA_DIR'] || '.data')
}

/** Throws an `Error` that names the variable and what it must be. */
export function readConfig (env: Environment): Config {
  const port = readPort(env)
  const trustProxy = readTrustProxy(env)
  const tls = readSwitch(env, 'TLS', true)
  if (!tls && trustProxy.length === 0) throw wrong('TRUST_PROXY', 'must name the proxies that end TLS where TLS=off: the API is served over HTTPS only')
  return Object.freeze({
    port,
    host: readHost(env),
    dataFolder: readDataFolder(env),
    tls,
    trustProxy,
    databaseUrl: readUrl(env, 'DATABASE_URL', ['postgres', 'postgresql']),
    redisUrl: readUrl(env, 'REDIS_URL', ['redis', 'rediss']),
    logLevel: readLogLevel(env),
    legacy: readLegacy(env, `https://localhost:${port}`)
  })
}

function wrong (name: string, rule: string): Error {
  return new Error(`${name} ${rule}`)
}

function readPort (env: Environment): number {
  const text = env['PORT'] || '8443'
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535) throw wrong('PORT', 'must be a whole number, 0 to 65535 (0: any free port)')
  return Number(text)
}

function readHost (env: Environment): string {
  const host = env['HOST'] || '127.0.0.1'
  if (isIP(host) === 0 && !/^[a-z\d]([a-z\d.-]*[a-z\d])?$/i.test(host)) throw wrong('HOST', 'must be an address or a host name')
  return host
}

function readSwitch (env: Environment, name: string, fallback: boolean): boolean {
  const text = env[name] || (fallback ? 'on' : 'off')
  if (text !== 'on' && text !== 'off') throw wrong(name, 'must be on or off')
  return text === 'on'
}

function readTrustProxy (env: Environment): readonly string[] {
  const entries = listOf(env['TRUST_PROXY'])
  if (!entries.every(isProxy)) throw wrong('TRUST_PROXY', 'must be a list of addresses and networks separated by commas, such as 10.0.0.0/8,192.0.2.7')
  return Object.freeze(entries)
}

/** No whole family, and no IPv4 in the spelling of IPv6: Fastify would read its prefix length otherwise than it is meant. */
function isProxy (entry: string): boolean {
  try {
    const { family, prefix } = parseEntry(entry)
    return prefix !== 0 && !(family === 4 && entry.includes(':'))
  } catch {
    return false
  }
}

function readUrl (env: Environment, name: string, schemes: readonly string[]): string | undefined {
  const text = env[name] || undefined
  // The message must not repeat the URL: it may hold a password.
  if (text !== undefined && !(schemes.some((scheme) => text.startsWith(`${scheme}://`)) && URL.canParse(text))) {
    throw wrong(name, `must be a ${schemes.map((scheme) => `${scheme}://`).join(' or ')} URL`)
  }
  return text
}

function readLogLevel (env: Environment): Config['logLevel'] {
  const level = logLevels.find((known) => known === (env['LOG_LEVEL'] || 'info'))
  if (level === undefined) throw wrong('LOG_LEVEL', `must be one of: ${logLevels.join(', ')}`)
  return level
}

function readLegacy (env: Environment, origin: string): LegacyCalendar {
  return Object.freeze({
    deprecatedAt: instantOf('LEGACY_DEPRECATED_AT', env['LEGACY_DEPRECATED_AT'] || '2024-01-01'),
    sunsetAt: instantOf('LEGACY_SUNSET_AT', env['LEGACY_SUNSET_AT'] || '2030-01-01'),
    link: env['LEGACY_LINK'] || `${origin}/departments/v3/core/moving-to-jwt`,
    brownouts: Object.freeze(listOf(env['LEGACY_BROWNOUTS']).map((interval) => {
      const [from, to, ...more] = interval.split('/')
      if (from === undefined || to === undefined || more.length > 0) throw wrong('LEGACY_BROWNOUTS', 'must be a list of from/to separated by commas')
      return Object.freeze({ from: instantOf('LEGACY_BROWNOUTS', from), to: instantOf('LEGACY_BROWNOUTS', to) })
    }))
  })
}

/** A moment in UTC. `name` stands in the error. */
export function instantOf (name: string, text: string): Date {
  const instant = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?Z)?$/.test(text) ? new Date(text) : undefined
  if (instant === undefined || Number.isNaN(instant.getTime())) throw wrong(name, 'must be a date or a moment in UTC: 2030-01-01 or 2030-01-01T09:00:00Z')
  return instant
}

/** The texts between the commas. */
export function listOf (text: string | undefined): readonly string[] {
  return (text ?? '').split(',').map((entry) => entry.trim()).filter((entry) => entry !== '')
}
