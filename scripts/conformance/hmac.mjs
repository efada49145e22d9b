/** hmac.json: MACs of known messages under known keys. */

import { createSecretKey } from 'node:crypto'
import { Tally } from './tally.mjs'

/**
 * Runs every vector against the MACs that hmac-auth and bearer-jwt share: as one message, and in pieces; with the key as bytes, and as a `KeyObject`.
 * A shortened MAC is right as such a vector, and has to be refused as a signature.
 */
export async function runHmac ({ vectors }, { createMac, isSameMac }) {
  const tally = new Tally('hmac.json')
  for (const vector of vectors) {
    await tally.attempt(vector, () => {
      const [key, message, tag] = [vector.key_hex, vector.msg_hex, vector.tag_hex].map((hex) => Buffer.from(hex, 'hex'))
      const macs = [key, createSecretKey(key)].map((secret) => createMac(vector.alg.replace('hmac-', ''), secret))
      const computed = macs.flatMap((mac) => [mac.of(message), inPieces(mac, message)])
      const begins = computed.every((mac) => mac.subarray(0, tag.length).equals(tag))
      const isWhole = tag.length === macs[0].length
      const isAccepted = computed.every((mac) => isSameMac({ computed: mac, presented: tag }))
      const answer = begins ? 'valid' : 'invalid'
      const isRight = answer === vector.expect && isAccepted === (isWhole && begins)
      tally.judge(vector, isRight, `${answer}, ${isAccepted ? 'accepted' : 'refused'} as a signature, expected: ${vector.expect}`)
    })
  }
  return tally
}

function inPieces (mac, message) {
  const running = mac.start()
  for (const byte of message) running.update(Uint8Array.of(byte))
  return running.digest()
}
