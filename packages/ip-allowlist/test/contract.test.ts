import t from 'tap'
import { contractSuite } from '@sallyport/test-kit'
import * as packageExports from '../src/index.js'
import { ipAllowlist, ipAllowlistRefusals, memoryListStore, type IpAllowlistOptions } from '../src/index.js'

await contractSuite(t, {
  plugin: ipAllowlist,
  name: 'ipAllowlist',
  packageExports,
  refusals: ipAllowlistRefusals,
  options: (): IpAllowlistOptions => ({ allow: ['127.0.0.1', '10.0.0.0/8'] }),
  accepted: { remoteAddress: '10.1.2.3' },
  server: { trustProxy: ['127.0.0.2'] },
  samples: {
    ERR_IP_ALLOWLIST_ADDRESS_DENIED: { request: { remoteAddress: '192.0.2.1' }, status: 403 },
    ERR_IP_ALLOWLIST_LIST_UNAVAILABLE: {
      request: { remoteAddress: '10.1.2.3' },
      options: { allow: { list: 'office' }, store: { ...memoryListStore(), versions: () => Promise.reject(new Error('down')) } },
      status: 503
    },
    ERR_IP_ALLOWLIST_ADDRESS_UNKNOWN: { request: { remoteAddress: '127.0.0.2', headers: { 'x-forwarded-for': 'unknown' } }, status: 403 }
  },
  secrets: []
})
