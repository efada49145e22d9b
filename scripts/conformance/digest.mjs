/** digest.json: `Content-Digest` fields and the bodies that they are of. */

import { isAuthError } from '@sallyport/guard'
import { Tally } from './tally.mjs'

/** Runs every vector against hmac-auth, with the body in one piece and byte by byte. */
export async function runDigest ({ vectors }, { parseContentDigest, watchContentDigest }) {
  const tally = new Tally('digest.json')
  for (const vector of vectors) {
    await tally.attempt(vector, () => {
      const body = Buffer.from(vector.body_hex, 'hex')
      const whole = verdict(vector.value, [body])
      const pieces = verdict(vector.value, Array.from(body, (byte) => Uint8Array.of(byte)))
      if (whole !== pieces) tally.fail(vector, `${whole} in one piece, ${pieces} in many`)
      else tally.judge(vector, whole === vector.expect, `${whole}, expected: ${vector.expect}`)
    })
  }
  return tally

  function verdict (value, chunks) {
    try {
      const watch = watchContentDigest(parseContentDigest(value))
      for (const chunk of chunks) watch.update(chunk)
      watch.verify()
      return 'valid'
    } catch (error) {
      if (!isAuthError(error)) throw error
      return 'invalid'
    }
  }
}
