/** Orders of fulfilment accounts, in the database. */

import type { FulfilmentEnvironment } from './account-tokens.js'
import type { Account } from './accounts.js'
import type { Database } from './database.js'
import { objectOf, textOf } from './schemas.js'

export interface NewOrder {
  readonly order_number: string
  readonly customer_email?: string
  readonly ship_to: Readonly<Record<string, string>>
  readonly line_items: readonly { readonly sku: string, readonly quantity: number }[]
}

export interface Order extends NewOrder {
  readonly id: string
  readonly created_at: Date
}

export interface Orders {
  /** The newest first, 100 at most. */
  readonly list: (slug: string) => Promise<readonly Order[]>
  /** `undefined`: the account has an order of that number. */
  readonly add: (account: Account, order: NewOrder) => Promise<Order | undefined>
}

export const newOrderSchema = objectOf(['order_number', 'ship_to', 'line_items'], {
  order_number: textOf(64),
  customer_email: { ...textOf(254), format: 'email' },
  ship_to: objectOf(['name', 'address1', 'city', 'country'], {
    name: textOf(100),
    address1: textOf(200),
    address2: textOf(200),
    city: textOf(100),
    state: textOf(100),
    postal_code: textOf(20),
    country: { type: 'string', pattern: '^[A-Z]{2}$' }
  }),
  line_items: {
    type: 'array',
    minItems: 1,
    maxItems: 100,
    items: objectOf(['sku', 'quantity'], { sku: textOf(64), quantity: { type: 'integer', minimum: 1, maximum: 1_000_000 } })
  }
})

interface Row { readonly id: string, readonly body: NewOrder, readonly created_at: Date }

/** The orders of one environment; the other's are out of its sight. */
export function createOrders (database: Database, environment: FulfilmentEnvironment): Orders {
  const orderOf = ({ id, body: { order_number, ...order }, created_at }: Row): Order => ({ id, order_number, ...order, created_at })
  return Object.freeze({
    async list (slug: string) {
      const rows = await database.query<Row>(
        'select id, body, created_at from fulfilment_orders where account_slug = $1 and environment = $2 order by position desc limit 100',
        [slug, environment]
      )
      return rows.map(orderOf)
    },
    async add ({ slug, name }: Account, order: NewOrder) {
      // Accounts are the operator's, in a file; a row of one's own is what orders refer to.
      await database.query('insert into accounts (slug, name) values ($1, $2) on conflict (slug) do nothing', [slug, name])
      const [row] = await database.query<Row>(`
        insert into fulfilment_orders (account_slug, environment, order_number, body) values ($1, $2, $3, $4)
        on conflict (account_slug, environment, order_number) do nothing
        returning id, body, created_at`, [slug, environment, order.order_number, JSON.stringify(order)])
      return row === undefined ? undefined : orderOf(row)
    }
  })
}
