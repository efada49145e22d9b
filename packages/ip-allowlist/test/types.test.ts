import t from 'tap'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { identityOf, guardOf } from '@sallyport/guard'
import type { IpAllowlistGuard, IpAllowlistIdentity, IpAllowlistOptions } from '../src/index.js'

t.test('types say what handlers get and what options take', (t) => {
  const identity = (app: FastifyInstance, request: FastifyRequest): IpAllowlistIdentity => identityOf(request, app.ipAllowlist)
  const named = (app: FastifyInstance): IpAllowlistGuard => guardOf<IpAllowlistGuard>(app, 'office')
  const options: IpAllowlistOptions[] = [{ allow: ['10.0.0.1'] }, { tenants: async () => ({ allow: [] }), tenantWithoutList: 'allow' }]
  // @ts-expect-error a family is ipv4 or ipv6
  options.push({ families: ['ip4'] })
  t.type((app: FastifyInstance, request: FastifyRequest): 'ipv4' | 'ipv6' => identity(app, request).family, 'function')
  t.type(named, 'function')
  t.end()
})
