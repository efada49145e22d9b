/** Signed requests. Each is signed anew before the clock starts, since whoever guards against replays takes none twice. */

import { createHmac, randomUUID, timingSafeEqual } from 'node:crypto'
import { memoryStore } from '@sallyport/guard'
import { createRequestSigner, hmacAuth } from '@sallyport/hmac-auth'
import { createSigner, createVerifier, httpbis } from 'http-message-signatures'
import { answer, fastify, get, host, post, repeated, secret, tenant, type Sample, type Variant } from './variant.js'

const keyId = 'erp-1'
const windowSeconds = 60
const fields = ['@method', '@authority', '@path', '@query']
const params = ['created', 'keyid', 'nonce', 'alg']

const signedGet: Variant['requests'] = async () => {
  const key = createSigner(secret, 'hmac-sha256', keyId)
  return async () => {
    const { headers } = await httpbis.signMessage({ key, fields, params, paramValues: { nonce: randomUUID() } }, { ...get, url: `http://${host}/`, headers: { ...get.headers } })
    return { ...get, headers }
  }
}

/** Signed by RFC 9421 as hmac-auth asks, a body's digest included. */
function signed (sample: Sample): Variant['requests'] {
  return async () => {
    const { sign } = createRequestSigner({ keyId, secret })
    return () => ({ ...sample, headers: { ...sample.headers, ...sign({ ...sample, url: `http://${host}/` }) } })
  }
}

function ours (method: Sample['method']): Variant['serve'] {
  return fastify(async (app) => {
    await app.register(hmacAuth, { keys: [{ id: keyId, secret, tenant }], store: memoryStore(), maxLiveClaimsPerKey: 1_000_000 })
    app.route({ method, url: '/', onRequest: app.hmacAuth, handler: () => answer })
  })
}

/** A body signed as many callbacks are: the MAC of its bytes in a header. */
function macOf (body: string | Buffer): Buffer {
  return createHmac('sha256', secret).update(body).digest()
}

export const signatureVariants: Readonly<Record<string, Variant>> = {
  'hmac-auth, RFC 9421 with nonce claim': { base: 'bare', requests: signed(get), isFresh: true, serve: ours('GET'), target: { share: 0.45 } },
  'hmac-auth, RFC 9421, body of 1 kB': { base: 'bare, POST', requests: signed(post), isFresh: true, serve: ours('POST') },
  'http-message-signatures, no nonce claim': {
    base: 'bare',
    requests: signedGet,
    isFresh: true,
    serve: fastify((app) => {
      const key = { id: keyId, algs: ['hmac-sha256'], verify: createVerifier(secret, 'hmac-sha256') }
      const rules = { keyLookup: async ({ keyid }: { keyid?: string }) => keyid === keyId ? key : null, requiredFields: fields, requiredParams: params, maxAge: windowSeconds }
      app.get('/', {
        async onRequest ({ method, url, headers }) {
          const isValid = await httpbis.verifyMessage(rules, { method, url: `http://${headers.host!}${url}`, headers: headers as Record<string, string> })
          if (isValid !== true) throw new Error('the signature is wrong')
        }
      }, () => answer)
    })
  },
  'createHmac by hand, body of 1 kB': {
    base: 'bare, POST',
    requests: repeated(post, { 'x-signature': macOf(post.body!).toString('hex') }),
    serve: fastify((app) => {
      app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body: Buffer, done) => {
        const given = Buffer.from(String(request.headers['x-signature']), 'hex')
        const mac = macOf(body)
        if (given.length !== mac.length || !timingSafeEqual(given, mac)) done(new Error('the signature is wrong'))
        else done(null, JSON.parse(body.toString()))
      })
      app.post('/', () => answer)
    })
  }
}
