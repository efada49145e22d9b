/** Transactions of merchants, in the database. */

import type { Database } from './database.js'
import { objectOf, textOf } from './schemas.js'

export interface NewTransaction {
  /** The merchant's own, and its only one of this name. */
  readonly reference: string
  /** In the smallest unit of the currency. */
  readonly amount: number
  /** ISO 4217. */
  readonly currency: string
  readonly description?: string
}

export interface Transaction extends NewTransaction {
  readonly id: string
  readonly created_at: Date
}

export interface Transactions {
  /** The newest first, 100 at most. */
  readonly list: (merchantId: string) => Promise<readonly Transaction[]>
  /** `undefined`: the merchant has a transaction of that reference. */
  readonly add: (merchantId: string, transaction: NewTransaction) => Promise<Transaction | undefined>
}

export const newTransactionSchema = objectOf(['reference', 'amount', 'currency'], {
  reference: textOf(64),
  amount: { type: 'integer', minimum: 1, maximum: 1_000_000_000_000 },
  currency: { type: 'string', pattern: '^[A-Z]{3}$' },
  description: textOf(200)
})

interface Row { readonly id: string, readonly body: NewTransaction, readonly created_at: Date }

export function createTransactions (database: Database): Transactions {
  const transactionOf = ({ id, body, created_at }: Row): Transaction => ({ id, ...body, created_at })
  return Object.freeze({
    async list (merchantId: string) {
      const rows = await database.query<Row>('select id, body, created_at from transactions where merchant_id = $1 order by position desc limit 100', [merchantId])
      return rows.map(transactionOf)
    },
    async add (merchantId: string, transaction: NewTransaction) {
      const [row] = await database.query<Row>(`
        insert into transactions (merchant_id, reference, body) values ($1, $2, $3)
        on conflict (merchant_id, reference) do nothing
        returning id, body, created_at`, [merchantId, transaction.reference, JSON.stringify(transaction)])
      return row && transactionOf(row)
    }
  })
}
