/** Address lists: ours at a million entries, and Node's own list at ten thousand, which it searches one by one. */

import { BlockList } from 'node:net'
import { buildAddressSet, ipAllowlist } from '@sallyport/ip-allowlist'
import { answer, fastify, get, repeated, type Variant } from './variant.js'

const subnets = 10_000

export const addressVariants: Readonly<Record<string, Variant>> = {
  'ip-allowlist, a million entries': {
    base: 'bare',
    requests: repeated(get),
    serve: fastify(async (app) => {
      const entries = Array.from({ length: 1_000_000 }, (_, i) => i % 2 === 0
        ? `10.${i >>> 16 & 255}.${i >>> 8 & 255}.${i & 255}`
        : `2001:db8:${(i >>> 16).toString(16)}:${(i & 0xffff).toString(16)}::/64`)
      await app.register(ipAllowlist, { allow: await buildAddressSet([...entries, '127.0.0.1']) })
      app.get('/', { onRequest: app.ipAllowlist }, () => answer)
    }),
    target: { share: 0.93 }
  },
  'net.BlockList, 10,000 subnets': {
    base: 'bare',
    requests: repeated(get),
    serve: fastify((app) => {
      const list = new BlockList()
      for (let i = 0; i < subnets; i++) {
        // In the middle, because the list is searched from one end.
        if (i === subnets / 2) list.addAddress('127.0.0.1')
        list.addSubnet(`10.${i >>> 8}.${i & 255}.0`, 24)
      }
      app.get('/', {
        onRequest (request, _reply, done) {
          done(list.check(request.ip) ? undefined : new Error('the address is not listed'))
        }
      }, () => answer)
    })
  }
}
