import t from 'tap'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { identityOf, guardOf, open } from '@sallyport/guard'
import { memoryListStore, type AllowlistRoutesOptions, type IpAllowlistGuard, type IpAllowlistIdentity, type IpAllowlistOptions, type ListEvent } from '../src/index.js'

t.test('types say what handlers get and what options take', (t) => {
  const identity = (app: FastifyInstance, request: FastifyRequest): IpAllowlistIdentity => identityOf(request, app.ipAllowlist)
  const named = (app: FastifyInstance): IpAllowlistGuard => guardOf<IpAllowlistGuard>(app, 'office')
  const options: IpAllowlistOptions[] = [{ allow: ['10.0.0.1'] }, { tenants: async () => ({ allow: [] }), tenantWithoutList: 'allow' }]
  options.push({ store: memoryListStore({ lists: { a: ['10.0.0.1', { entry: '10.0.0.2', note: 'n', expiresAt: '2027-01-01T00:00:00Z' }] } }), allow: { list: 'a' }, tenants: (tenant) => ({ allow: { list: tenant } }) })
  // @ts-expect-error an end is text, as in JSON
  options.push({ allow: [{ entry: '10.0.0.1', expiresAt: new Date() }] })
  // @ts-expect-error a list is named by text
  options.push({ allow: { list: 7 } })
  // @ts-expect-error a family is ipv4 or ipv6
  options.push({ families: ['ip4'] })
  t.type((app: FastifyInstance, request: FastifyRequest): 'ipv4' | 'ipv6' => identity(app, request).family, 'function')
  t.type((app: FastifyInstance) => app.ipAllowlist.require({ list: 'a' }), 'function')
  // @ts-expect-error only a list can be required
  t.type((app: FastifyInstance) => app.ipAllowlist.require({ allow: 'a' }), 'function')
  // @ts-expect-error the API needs a store
  const api: AllowlistRoutesOptions = { policy: open('never') }
  const told = (event: ListEvent): string | undefined => event.kind === 'changed' ? event.change.by.subject : event.list
  t.type(api, 'object')
  t.type(told, 'function')
  t.type(named, 'function')
  t.end()
})
