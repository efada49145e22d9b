/** The demo's tables, made at start by whichever process comes first. */

import type { Database } from './database.js'

export interface Migration {
  /** Never changed once it was released; the order is that of the list. */
  readonly id: string
  /** One statement or several, each ended by a semicolon. */
  readonly sql: string
}

export const migrations: readonly Migration[] = [
  {
    id: '0001-state',
    // What sqlStore keeps. A key is a hash: compared byte by byte, whatever the database's locale is.
    sql: `
      create table state (
        key text collate "C" primary key,
        value text not null,
        expires_at timestamptz not null
      );
      create index state_expires_at on state (expires_at);
    `
  },
  {
    id: '0002-fulfilment',
    sql: `
      create table accounts (
        slug text primary key,
        name text not null,
        created_at timestamptz not null default now()
      );
      create table fulfilment_orders (
        id uuid primary key default gen_random_uuid(),
        account_slug text not null references accounts (slug),
        environment text not null check (environment in ('production', 'sandbox')),
        order_number text not null,
        body jsonb not null,
        created_at timestamptz not null default now(),
        position bigint generated always as identity,
        unique (account_slug, environment, order_number)
      );
    `
  },
  {
    id: '0003-commerce',
    sql: `
      create table commerce_users (
        id uuid primary key default gen_random_uuid(),
        name text not null unique,
        password_hash text not null,
        permissions text[] not null default '{}',
        created_at timestamptz not null default now(),
        disabled_at timestamptz
      );
      create table inventory (
        product_id text not null,
        facility_id text not null,
        quantity_on_hand integer not null,
        updated_at timestamptz not null default now(),
        primary key (product_id, facility_id)
      );
    `
  },
  {
    id: '0004-payments',
    // The list of those who may call the gateway begins with the machine itself; who removes it shuts out everybody.
    sql: `
      create table transactions (
        id uuid primary key default gen_random_uuid(),
        merchant_id text not null,
        reference text not null,
        body json not null,
        created_at timestamptz not null default now(),
        position bigint generated always as identity,
        unique (merchant_id, reference)
      );
      create table address_lists (
        name text primary key,
        version text not null,
        entries json not null
      );
      create table address_list_changes (
        position bigint generated always as identity primary key,
        list text not null,
        change json not null
      );
      create index address_list_changes_list on address_list_changes (list, position);
      insert into address_lists (name, version, entries) values ('merchants', 'first', '[
        { "entry": "127.0.0.1", "note": "this machine" }, { "entry": "::1", "note": "this machine" }
      ]');
    `
  }
]

/** An advisory lock is a number that all processes of a database agree on; nothing else may use this one. */
const LOCK = 7_250_881
/** A migration may take its time, and so may those who wait for it. */
const STATEMENT_TIMEOUT_MS = 300_000

/**
 * Brings the database up to date and resolves with the ids of the migrations that this call applied, in order. Each is a
 * transaction of its own, recorded in the table `schema_migrations`; of several processes one applies it, and the others wait.
 * Rejects with `DatabaseError` for one that fails: it leaves nothing behind, those before it stay.
 * @param pending default: `migrations`
 */
export async function migrate (database: Database, pending: readonly Migration[] = migrations): Promise<readonly string[]> {
  const locked = async <T>(work: (database: Database) => Promise<T>): Promise<T> => database.transaction(async (database) => {
    await database.query(`select pg_advisory_xact_lock(${LOCK})`)
    return work(database)
  }, { statementTimeoutMs: STATEMENT_TIMEOUT_MS })

  const recorded = await locked(async (database) => {
    // Two at once would fail, even with "if not exists".
    await database.query('create table if not exists schema_migrations (id text primary key, applied_at timestamptz not null default now())')
    return database.query<{ id: string }>('select id from schema_migrations')
  })
  const known = new Set(recorded.map(({ id }) => id))
  const applied: string[] = []
  for (const { id, sql } of pending) {
    if (known.has(id)) continue
    const isOurs = await locked(async (database) => {
      // The row first: it says whether another process was quicker while this one waited.
      const rows = await database.query('insert into schema_migrations (id) values ($1) on conflict do nothing returning id', [id])
      if (rows.length > 0) await database.query(sql)
      return rows.length > 0
    })
    if (isOurs) applied.push(id)
  }
  return applied
}
