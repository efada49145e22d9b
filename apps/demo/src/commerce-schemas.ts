/** What the commerce API takes. */

import { MAX_TOKEN_SECONDS } from './ring-tokens.js'
import { objectOf, textOf } from './schemas.js'
import { permissions } from './users.js'

/** Never stored, so anything may stand in it. */
const password = (minLength: number): object => ({ type: 'string', minLength, maxLength: 200 })

const stock = objectOf(['productId', 'facilityId', 'quantity'], {
  productId: textOf(64),
  facilityId: textOf(64),
  quantity: { type: 'integer', minimum: 0, maximum: 1_000_000_000 }
})

export const loginSchema = { body: objectOf(['name', 'password'], { name: textOf(100), password: password(1) }) }

export const newUserSchema = {
  body: objectOf(['name', 'password', 'permissions'], {
    name: textOf(100),
    password: password(12),
    permissions: { type: 'array', uniqueItems: true, items: { type: 'string', enum: permissions } }
  })
}

export const newTokenSchema = {
  body: objectOf(['purpose', 'validitySeconds'], {
    user: textOf(100),
    purpose: textOf(200),
    validitySeconds: { type: 'integer', minimum: 60, maximum: MAX_TOKEN_SECONDS }
  })
}

export const ofUserSchema = { querystring: objectOf([], { user: textOf(100) }) }

export const stockSchema = { body: { anyOf: [stock, { type: 'array', minItems: 1, maxItems: 500, items: stock }] } }
