/** Stock by product and facility, in the database. */

import type { Database } from './database.js'

export interface Stock {
  readonly productId: string
  readonly facilityId: string
  /** On hand. */
  readonly quantity: number
}

export interface Inventory {
  /** 1,000 at most, in order. */
  readonly list: () => Promise<readonly Stock[]>
  /** What is on hand from now on: all of it is taken, or none. No product may stand twice for one facility. */
  readonly set: (stock: readonly Stock[]) => Promise<readonly Stock[]>
}

const columns = 'product_id as "productId", facility_id as "facilityId", quantity_on_hand as quantity'

/** In one order for all, so that two updates at once never wait for each other. */
const setStatement = `
  insert into inventory (product_id, facility_id, quantity_on_hand)
  select * from unnest($1::text[], $2::text[], $3::integer[]) as given (product_id, facility_id, quantity) order by 1, 2
  on conflict (product_id, facility_id) do update set quantity_on_hand = excluded.quantity_on_hand, updated_at = now()
  returning ${columns}`

export function createInventory (database: Database): Inventory {
  return Object.freeze({
    list: async () => database.query<Stock>(`select ${columns} from inventory order by product_id, facility_id limit 1000`),
    set: async (stock: readonly Stock[]) => database.query<Stock>(setStatement, [
      stock.map(({ productId }) => productId), stock.map(({ facilityId }) => facilityId), stock.map(({ quantity }) => quantity)
    ])
  })
}
