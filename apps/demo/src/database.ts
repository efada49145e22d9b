/** The demo's database: an embedded PostgreSQL in a folder, or a PostgreSQL server. The same SQL runs on both. */

import { AsyncLocalStorage } from 'node:async_hooks'
import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import { Pool, TypeOverrides, types, type PoolClient, type QueryConfig, type QueryResult } from 'pg'
import { ensureFolder, readIfThere, replaceFile, whileLocked } from './private-files.js'

export interface Database {
  /**
   * Runs one statement and resolves with its rows. Values are for `$1`, `$2` and so on; `undefined` is stored as null. Arrays
   * are for columns of an array type; a value for `jsonb` must be JSON text. `bigint` and `count` arrive as numbers (a `bigint`
   * beyond 2^53), `timestamptz` as `Date`, `jsonb` parsed. Without values the text may hold several statements, which stand or
   * fall together; the rows are those of the last.
   * Rejects with `DatabaseError`. When the connection broke the statement may have been carried out, so nothing is sent twice.
   */
  query<Row> (text: string, values?: readonly unknown[]): Promise<readonly Row[]>
  /**
   * Commits what `work` does with the database it is given when its promise resolves; otherwise undoes it all and rejects with
   * the same error. Isolation: read committed. Within `work` only that database answers: this one rejects, because it would wait
   * for the transaction to end. Transactions don't nest.
   */
  transaction<T> (work: (database: Database) => Promise<T>, options?: TransactionOptions): Promise<T>
  /** Waits for what is under way, then lets go of the folder or the connections. A second call waits for the first. */
  close (): Promise<void>
}

export interface TransactionOptions {
  /** How long each statement may take on a server, in milliseconds. Default: the database's `statementTimeoutMs` */
  readonly statementTimeoutMs?: number | undefined
}

export interface DatabaseOptions {
  /**
   * The demo's data folder, an absolute path. The embedded database is in `database` within it, for one process at a time; it
   * survives the end of the process however it comes, but not a power failure (PGlite can't flush the disk's cache).
   */
  readonly folder: string
  /**
   * `postgres://` URL of a PostgreSQL server, 13 or newer; the embedded database isn't used then. Its parameters override what is
   * set here (`?sslmode=verify-full`, `?options=-c%20search_path%3Ddemo`). Nothing is connected before the first query.
   */
  readonly url?: string | undefined
  /** How many connections to the server this process holds at most. Default: 10 */
  readonly maxConnections?: number | undefined
  /** How long a statement may take on the server, in milliseconds. The embedded database knows no limit. Default: 5,000 */
  readonly statementTimeoutMs?: number | undefined
  /** Told that an idle connection broke; the next query opens another. Default: nobody is */
  readonly onConnectionLost?: ((error: DatabaseError) => void) | undefined
}

/**
 * Why a query failed. Neither the message nor anything else repeats a value: of errors that may quote one, such as a unique
 * violation, only the SQLSTATE and the constraint's name are told.
 */
export class DatabaseError extends Error {
  override readonly name = 'DatabaseError'
  /** The SQLSTATE (`23505`: unique violation). Of a database that didn't answer Node's code, or `ERR_DATABASE_UNREACHABLE`. */
  readonly code: string
  /** The violated constraint. */
  readonly constraint: string | undefined
  /** 503 where it may work later: out of reach, too busy, too slow, a conflict of transactions. Otherwise 500. */
  readonly statusCode: 500 | 503

  constructor (code: string, message: string, constraint?: string) {
    super(message)
    this.code = code
    this.constraint = constraint
    // No SQLSTATE begins with an E and a letter; Node's codes do.
    this.statusCode = /^(E[A-Z]|08|25006|40|53|55|57)/.test(code) ? 503 : 500
  }
}

/** Runs statements in turn, on one connection. */
type Run = (text: string, values?: readonly unknown[]) => Promise<readonly unknown[]>

interface Driver {
  readonly run: Run
  transaction<T> (work: (run: Run) => Promise<T>, options: TransactionOptions): Promise<T>
  close (): Promise<void>
}

const CONNECT_TIMEOUT_MS = 2_000
/** How much longer than its limit a statement is waited for: after that the server, or the network to it, is dead. */
const SILENCE_MS = 1_000
const IDLE_IN_TRANSACTION_MS = 10_000

/**
 * Opens the database that the options name. Throws an `Error` where another process has the folder open.
 * Only the embedded database is opened right away: about 0.5 s, and 3 s the first time.
 */
export async function openDatabase (options: DatabaseOptions): Promise<Database> {
  return databaseOn(options.url === undefined ? await openEmbedded(options.folder) : openPool(options.url, options))
}

function databaseOn (driver: Driver): Database {
  const scopes = new AsyncLocalStorage<{ isOpen: boolean }>()
  let closing: Promise<void> | undefined
  const assertUsable = (): void => {
    if (closing !== undefined) throw new DatabaseError('ERR_DATABASE_CLOSED', 'The database is closed')
    if (scopes.getStore()?.isOpen === true) throw new TypeError('within a transaction, use the database that was given to it')
  }
  return {
    async query<Row> (text: string, values?: readonly unknown[]) {
      assertUsable()
      return await coded(driver.run(text, values)) as readonly Row[]
    },
    async transaction (work, options = {}) {
      assertUsable()
      const scope = { isOpen: true }
      return driver.transaction(async (run) => {
        const { database, settled } = withinTransaction(run, scope)
        try {
          return await scopes.run(scope, work, database)
        } finally {
          scope.isOpen = false
          await settled()
        }
      }, options).catch((error: unknown) => { throw isServerError(error) ? databaseErrorOf(error) : error })
    },
    close: async () => await (closing ??= driver.close())
  }
}

function withinTransaction (run: Run, scope: { readonly isOpen: boolean }): { database: Database, settled: () => Promise<unknown> } {
  let last: Promise<unknown> = Promise.resolve()
  const refuse = async (): Promise<never> => { throw new TypeError('not within a transaction') }
  const database: Database = {
    async query<Row> (text: string, values?: readonly unknown[]) {
      if (!scope.isOpen) throw new TypeError('the transaction has ended')
      const rows = last.then(async () => coded(run(text, values)))
      last = rows.catch(() => {})
      return await rows as readonly Row[]
    },
    transaction: refuse,
    close: refuse
  }
  return { database, settled: async () => last }
}

async function openEmbedded (folder: string): Promise<Driver> {
  ensureFolder(folder)
  const path = join(folder, 'database')
  const holder = `${path}.pid`
  await whileLocked(holder, () => takeFolder(holder))
  const pglite = await openFiles(path).catch((error: unknown) => {
    rmSync(holder, { force: true })
    throw new Error(`the embedded database in ${path} can't be opened: ${error instanceof Error ? error.message : String(error)}`)
  })
  const runOn = (on: Pick<PGlite, 'exec' | 'query'>): Run => async (text, values) => {
    if (values === undefined) return (await on.exec(text)).at(-1)?.rows ?? []
    return (await on.query(text, [...values])).rows
  }
  return {
    run: runOn(pglite),
    transaction: async (work) => pglite.transaction(async (tx) => work(runOn(tx))),
    async close () {
      await pglite.close()
      rmSync(holder, { force: true })
    }
  }
}

/** A new database gets its name once it is whole: a first start that is interrupted leaves nothing that looks like one. */
async function openFiles (path: string): Promise<PGlite> {
  if (!existsSync(path)) {
    const draft = `${path}.draft`
    rmSync(draft, { recursive: true, force: true })
    ensureFolder(draft)
    await (await PGlite.create(draft)).close()
    renameSync(draft, path)
  }
  return PGlite.create(path)
}

/** PGlite doesn't notice a second process on its files, and two would destroy them. */
function takeFolder (holder: string): void {
  const [pid, start] = readIfThere(holder)?.split(' ') ?? []
  if (pid && isRunning(Number(pid), start ?? '')) {
    throw new Error(`the process ${pid} has the embedded database of this folder open, and it is for one process only: end that one first, or use DATABASE_URL for several`)
  }
  replaceFile(holder, `${process.pid} ${startOf(process.pid)}`)
}

function isRunning (pid: number, start: string): boolean {
  if (process.platform === 'linux') return start !== '' && startOf(pid) === start
  try {
    return process.kill(pid, 0)
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM'
  }
}

/** Tells a process from a later one of the same number, as restarted containers have. Empty where there is none, or the system doesn't say. */
function startOf (pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return state === 'Z' || state === 'X' ? '' : fields[18] ?? ''
  } catch {
    return ''
  }
}

function openPool (url: string, { maxConnections = 10, statementTimeoutMs = 5_000, onConnectionLost }: DatabaseOptions): Driver {
  const parsers = new TypeOverrides()
  parsers.setTypeParser(types.builtins.INT8, integerOf)
  const pool = new Pool({
    connectionString: url,
    application_name: 'sallyport-demo',
    max: maxConnections,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    statement_timeout: statementTimeoutMs,
    query_timeout: statementTimeoutMs + SILENCE_MS,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
    keepAlive: true,
    types: parsers
  })
  pool.on('error', (error) => onConnectionLost?.(databaseErrorOf(error)))
  // One that breaks between two statements of a transaction says so to nobody; the next statement then fails.
  pool.on('connect', (client) => { client.on('error', () => {}) })

  return {
    run: async (text, values) => withClient(pool, async (client) => (await send(client, text, values)).rows),
    transaction: async (work, { statementTimeoutMs: limitMs }) => withClient(pool, async (client) => {
      await coded(send(client, `begin isolation level read committed${limitMs === undefined ? '' : `; set local statement_timeout = ${limitMs}`}`))
      try {
        const result = await work(async (text, values) => (await send(client, text, values, limitMs)).rows)
        const { command } = await coded(send(client, 'commit'))
        if (command === 'ROLLBACK') throw new DatabaseError('25P02', 'The transaction was undone: a statement in it had failed')
        return result
      } catch (error) {
        // Where this fails too, the end of the connection undoes it.
        await send(client, 'rollback').catch(() => {})
        throw error
      }
    }),
    close: async () => pool.end()
  }
}

type Columns = Record<string, unknown>

/** Connections on which a statement got no answer from the server: nobody knows what state they are in. */
const doubtful = new WeakSet<PoolClient>()

async function withClient<T> (pool: Pool, work: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await coded(pool.connect())
  try {
    return await work(client)
  } finally {
    client.release(doubtful.has(client) || client.getTransactionStatus() !== 'I')
  }
}

async function send (client: PoolClient, text: string, values?: readonly unknown[], limitMs?: number): Promise<QueryResult<Columns>> {
  const config: QueryConfig & { query_timeout?: number } = {
    text,
    ...(values !== undefined && { values: [...values] }),
    ...(limitMs !== undefined && { query_timeout: limitMs + SILENCE_MS })
  }
  try {
    // Several statements have several results.
    const results: QueryResult<Columns> | QueryResult<Columns>[] = await client.query<Columns>(config)
    return [results].flat().at(-1)!
  } catch (error) {
    if (!isServerError(error)) doubtful.add(client)
    throw error
  }
}

function integerOf (text: string): number | bigint {
  const integer = Number(text)
  return Number.isSafeInteger(integer) ? integer : BigInt(text)
}

interface ServerError { readonly severity: string, readonly code: string, readonly message: string, readonly constraint?: string }

function isServerError (error: unknown): error is ServerError {
  if (!(error instanceof Error)) return false
  const { severity, code } = error as Partial<ServerError>
  return typeof severity === 'string' && typeof code === 'string'
}

async function coded<T> (answer: Promise<T>): Promise<T> {
  return answer.catch((error: unknown) => { throw databaseErrorOf(error) })
}

function databaseErrorOf (error: unknown): DatabaseError {
  if (error instanceof DatabaseError) return error
  if (isServerError(error)) {
    // Only of these classes the text speaks of names and limits; that of others quotes what was sent.
    const text = /^(08|25|28|3D|3F|40|42|53|54|55|57)/.test(error.code) ? error.message : 'The database refused the statement'
    const of = error.constraint === undefined ? '' : `, ${error.constraint}`
    return new DatabaseError(error.code, `${text} (${error.code}${of})`, error.constraint)
  }
  const { code, message = '' } = error as Partial<NodeJS.ErrnoException>
  return new DatabaseError(code ?? 'ERR_DATABASE_UNREACHABLE', `The database did not answer: ${message === '' ? code : message}`)
}
