/** A state store in the demo's database, for as many processes as the database has. */

import { hash } from 'node:crypto'
import { StoreUnavailable, type ClaimResult, type StateStore } from '@sallyport/guard'
import type { Database } from './database.js'

export interface SqlStoreOptions {
  /**
   * Milliseconds since the epoch; for tests. Default: the database's own clock, so that several processes agree on what has
   * expired, whatever theirs say.
   */
  readonly clock?: (() => number) | undefined
}

/** A try fails only if another process took the key, or gave it back, within the milliseconds of one statement. */
const CLAIM_TRIES = 5
/** Each so many writes, twice as many expired rows go: they always drain, and no call pays for a million that expire at once. */
const WRITES_PER_SWEEP = 64
const ROWS_PER_SWEEP = 2 * WRITES_PER_SWEEP

/** The time by parameter `n`, in milliseconds since the epoch; by the database where that is null. */
const now = (n: number): string => `coalesce(to_timestamp($${n}::float8 / 1000), now())`
const expiry = (ttl: number, n: number): string => `${now(n)} + $${ttl}::float8 * interval '1 millisecond'`

/**
 * The insertion alone decides who wins: it takes the row's lock, and judges the expiry by the row as it is then, not as it was
 * when the statement began. Reading first spares the others the lock and the write, so a replay costs no disk.
 */
const claimStatement = `
  with held as (
    select value from state where key = $1 and expires_at > ${now(4)}
  ), claimed as (
    insert into state (key, value, expires_at)
    select $1, $2::text, ${expiry(3, 4)} where not exists (select from held)
    on conflict (key) do update set value = excluded.value, expires_at = excluded.expires_at
    where state.expires_at <= ${now(4)}
    returning value
  )
  select true as claimed, value from claimed
  union all
  select false as claimed, value from held`

const setStatement = `
  insert into state (key, value, expires_at) values ($1, $2, ${expiry(3, 4)})
  on conflict (key) do update set value = excluded.value, expires_at = excluded.expires_at`

const getStatement = `select value from state where key = $1 and expires_at > ${now(2)}`

const releaseStatement = `delete from state where key = $1 and value = $2 and expires_at > ${now(3)}`

/** Rows that others are changing are left to the next time. A minute's grace: a clock that goes back a little opens no claim again. */
const sweepStatement = `
  delete from state where key = any (array(
    select key from state where expires_at < ${now(1)} - interval '1 minute'
    order by expires_at limit ${ROWS_PER_SWEEP} for update skip locked
  ))`

/**
 * A `StateStore` on the table `state` (see `migrations`). One statement and one round trip a call, committed when it resolves;
 * a claim that meets another in flight takes two.
 *
 * Keys are kept as SHA-256 hashes, as `redisStore` does, so their length is bounded and what stands in them can't be read from
 * the table. To find one by hand: `hash('sha256', Buffer.from(key, 'utf16le'), 'base64url')` of `node:crypto`. Values are kept as
 * they are: well-formed text without U+0000.
 *
 * What the server must be: `synchronous_commit` on, and a failover only to a standby that has everything, or the last claims are
 * lost with it. Not for use within a transaction: a claim would count only when that ends.
 *
 * Methods reject with `DatabaseError`; with `StoreUnavailable` for a key that changes hands faster than it can be read; with a
 * `TypeError` when `ttlMs` is not a whole number, 1 or more, or when the clock returns no number.
 */
export function sqlStore (database: Database, { clock }: SqlStoreOptions = {}): StateStore {
  let writes = 0
  let isSweeping = false

  const time = (): number | null => {
    if (clock === undefined) return null
    const ms = clock()
    if (!Number.isFinite(ms)) throw new TypeError('clock must return a finite number of milliseconds')
    return ms
  }

  /** Nobody waits for a sweep, and what one leaves the next one takes. */
  const countWrite = async (at: number | null): Promise<void> => {
    if (++writes % WRITES_PER_SWEEP !== 0 || isSweeping) return
    isSweeping = true
    await database.query(sweepStatement, [at]).catch(() => {})
    isSweeping = false
  }

  return {
    async claim (key: string, ttlMs: number, value = ''): Promise<ClaimResult> {
      assertTtl(ttlMs)
      const name = nameOf(key)
      const at = time()
      for (let tries = 0; tries < CLAIM_TRIES; tries++) {
        const [row] = await database.query<{ claimed: boolean, value: string }>(claimStatement, [name, value, ttlMs, at])
        if (row?.claimed === false) return { claimed: false, value: row.value }
        if (row?.claimed === true) {
          void countWrite(at)
          return { claimed: true }
        }
        // It was free when the statement began, and taken when it came to the row.
      }
      throw new StoreUnavailable('the key changes hands faster than it can be read')
    },

    async release (key: string, owner: string): Promise<void> {
      await database.query(releaseStatement, [nameOf(key), owner, time()])
    },

    async get (key: string): Promise<string | undefined> {
      const [row] = await database.query<{ value: string }>(getStatement, [nameOf(key), time()])
      return row?.value
    },

    async set (key: string, value: string, ttlMs: number): Promise<void> {
      assertTtl(ttlMs)
      const at = time()
      await database.query(setStatement, [nameOf(key), value, ttlMs, at])
      void countWrite(at)
    },

    async delete (key: string): Promise<void> {
      await database.query('delete from state where key = $1', [nameOf(key)])
    }
  }
}

/** UTF-16 as it stands: in UTF-8 all lone surrogates would be one key. */
function nameOf (key: string): string {
  return hash('sha256', Buffer.from(key, 'utf16le'), 'base64url')
}

function assertTtl (ttlMs: number): void {
  if (!Number.isSafeInteger(ttlMs) || ttlMs < 1) throw new TypeError('ttlMs must be a whole number of milliseconds, 1 or more')
}
