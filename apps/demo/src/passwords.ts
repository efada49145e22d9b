/** Passwords, kept as scrypt hashes (RFC 7914). */

import { randomBytes, scrypt, timingSafeEqual } from 'node:crypto'

/** What OWASP's cheat sheet asks for at least with 32 MiB: about 0.2 s of one core. */
const COST = { N: 2 ** 15, r: 8, p: 3 } as const
/** 128 * N * r, and room beside it. */
const MAX_MEMORY_BYTES = 64 * 2 ** 20
const SALT_BYTES = 16
const HASH_BYTES = 32

/** A text that says how it was made, so that the cost can be raised later: `scrypt$32768$8$3$salt$hash`. */
export async function hashPassword (password: string): Promise<string> {
  const salt = randomBytes(SALT_BYTES)
  const hash = await derive(password, salt, COST)
  return ['scrypt', COST.N, COST.r, COST.p, salt.toString('base64url'), hash.toString('base64url')].join('$')
}

/** The work is the same for a wrong password and for no hash at all, so that the time does not tell who is known. */
export async function verifyPassword (password: string, stored: string | undefined): Promise<boolean> {
  const { cost, salt, hash } = parseHash(stored ?? decoy)
  const found = await derive(password, salt, cost)
  return timingSafeEqual(found, hash) && stored !== undefined
}

type Cost = { readonly N: number, readonly r: number, readonly p: number }

const decoy = ['scrypt', COST.N, COST.r, COST.p, randomBytes(SALT_BYTES).toString('base64url'), randomBytes(HASH_BYTES).toString('base64url')].join('$')

function parseHash (text: string): { readonly cost: Cost, readonly salt: Buffer, readonly hash: Buffer } {
  const [name, n, r, p, salt = '', hash = ''] = text.split('$')
  const bytes = Buffer.from(hash, 'base64url')
  if (name !== 'scrypt' || bytes.length !== HASH_BYTES) throw new Error('a password hash in the database is damaged')
  return { cost: { N: Number(n), r: Number(r), p: Number(p) }, salt: Buffer.from(salt, 'base64url'), hash: bytes }
}

/** Normalised, so that a password counts the same from every keyboard. */
async function derive (password: string, salt: Buffer, cost: Cost): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    scrypt(password.normalize('NFKC'), salt, HASH_BYTES, { ...cost, maxmem: MAX_MEMORY_BYTES }, (error, hash) => {
      if (error === null) resolve(hash)
      else reject(error)
    })
  })
}
