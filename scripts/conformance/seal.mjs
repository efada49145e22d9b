/** Encrypts by hand, with node:crypto alone, so that what is sealed here shares nothing with the code under test. */

import { constants, createCipheriv, createHash, createHmac, createPublicKey, diffieHellman, generateKeyPairSync, publicEncrypt, randomBytes } from 'node:crypto'

const encode = (value) => Buffer.from(value).toString('base64url')
const curves = { 'P-256': 'prime256v1', 'P-384': 'secp384r1', 'P-521': 'secp521r1' }

/** A JWE in compact serialisation around `plaintext` for a JWK, private or shared, with `cty: JWT`. */
export function seal (plaintext, { alg, enc, jwk }) {
  const { contentKey, encryptedKey = Buffer.alloc(0), header = {} } = wrap({ alg, enc, jwk })
  const protectedHeader = encode(JSON.stringify({ alg, enc, cty: 'JWT', ...header }))
  const { iv, ciphertext, tag } = encrypt(Buffer.from(plaintext), { enc, contentKey, aad: Buffer.from(protectedHeader) })
  return [protectedHeader, ...[encryptedKey, iv, ciphertext, tag].map(encode)].join('.')
}

function wrap ({ alg, enc, jwk }) {
  if (alg === 'dir') return { contentKey: Buffer.from(jwk.k, 'base64url') }
  const contentKey = randomBytes(32)
  if (alg === 'A256KW') return { contentKey, encryptedKey: wrapKey(Buffer.from(jwk.k, 'base64url'), contentKey) }
  const { kty, n, e, crv, x, y } = jwk
  const publicKey = createPublicKey({ key: JSON.parse(JSON.stringify({ kty, n, e, crv, x, y })), format: 'jwk' })
  if (alg === 'RSA-OAEP-256') return { contentKey, encryptedKey: publicEncrypt({ key: publicKey, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256' }, contentKey) }
  const ephemeral = crv === 'X25519' ? generateKeyPairSync('x25519') : generateKeyPairSync('ec', { namedCurve: curves[crv] })
  const agreed = diffieHellman({ privateKey: ephemeral.privateKey, publicKey })
  const header = { epk: ephemeral.publicKey.export({ format: 'jwk' }) }
  if (alg === 'ECDH-ES') return { contentKey: derive(agreed, enc), header }
  return { contentKey, encryptedKey: wrapKey(derive(agreed, alg), contentKey), header }
}

/** RFC 3394. */
function wrapKey (wrappingKey, contentKey) {
  const cipher = createCipheriv('id-aes256-wrap', wrappingKey, Buffer.alloc(8, 0xa6))
  return Buffer.concat([cipher.update(contentKey), cipher.final()])
}

/** The Concat KDF of RFC 7518 section 4.6.2 for 256 bits, without names of parties. */
function derive (agreed, algorithm) {
  const number = (value) => { const bytes = Buffer.alloc(4); bytes.writeUInt32BE(value); return bytes }
  const parts = [number(1), agreed, number(algorithm.length), Buffer.from(algorithm), number(0), number(0), number(256)]
  return createHash('sha256').update(Buffer.concat(parts)).digest()
}

function encrypt (plaintext, { enc, contentKey, aad }) {
  if (enc === 'A256GCM') {
    const iv = randomBytes(12)
    const cipher = createCipheriv('aes-256-gcm', contentKey, iv).setAAD(aad)
    const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()])
    return { iv, ciphertext, tag: cipher.getAuthTag() }
  }
  const iv = randomBytes(16)
  const cipher = createCipheriv('aes-128-cbc', contentKey.subarray(16), iv)
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()])
  const bits = Buffer.alloc(8)
  bits.writeBigUInt64BE(BigInt(aad.length * 8))
  const mac = createHmac('sha256', contentKey.subarray(0, 16)).update(Buffer.concat([aad, iv, ciphertext, bits])).digest()
  return { iv, ciphertext, tag: mac.subarray(0, 16) }
}
