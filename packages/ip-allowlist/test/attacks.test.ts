import { once } from 'node:events'
import { createServer, request as forward } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import { guard } from '@sallyport/guard'
import { rawRequest } from '@sallyport/test-kit'
import { allowlistRoutes, createAddressSet, ipAllowlist, memoryListStore, type AddressSet, type IpAllowlistOptions } from '../src/index.js'
import { adminGuard } from './fixtures/admin-guard.js'

async function served (options: IpAllowlistOptions, server: FastifyServerOptions = {}): Promise<FastifyInstance> {
  const app = Fastify(server)
  await app.register(ipAllowlist, options)
  app.get('/', { onRequest: app.ipAllowlist }, () => 'served')
  return app
}

t.test('refuses a client that claims an allowed address in X-Forwarded-For', async (t) => {
  const app = await served({ allow: ['10.0.0.1'] })
  t.teardown(() => app.close())
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as { port: number }
  for (const header of ['X-Forwarded-For: 10.0.0.1', 'X-Real-IP: 10.0.0.1', 'Forwarded: for=10.0.0.1', 'X_Forwarded_For: 10.0.0.1']) {
    t.equal((await rawRequest(port, ['GET / HTTP/1.1', header])).status, 403, header)
  }
})

t.test('refuses whatever a trusted proxy hands on that is no address, on deny lists too', async (t) => {
  const app = await served({ deny: ['192.0.2.1'] }, { trustProxy: ['127.0.0.1'] })
  const junk = [
    'unknown', 'garbage', '1.2.3.4:5678', '[2001:db8::1]:443', '0x7f000001', '017700000001', '127.1', '1.2.3.04', '1.2.3.4/32',
    '::ffff:1.2.3.4.5', '2001:db8::1%', 'localhost', '１.2.3.4', '-', '*'
  ]
  for (const value of junk) {
    const response = await app.inject({ url: '/', remoteAddress: '127.0.0.1', headers: { 'x-forwarded-for': value } })
    t.equal(response.statusCode, 403, value)
    t.notMatch(response.body, value.replace(/[[\]*]/g, '\\$&'), 'nor is it echoed')
  }
})

t.test('finds a denied address in every spelling', async (t) => {
  const app = await served({ deny: ['192.0.2.1', '2001:db8::/32'] })
  const spellings = [
    '192.0.2.1', '::ffff:192.0.2.1', '::FFFF:192.0.2.1', '::ffff:c000:201', '0:0:0:0:0:ffff:c000:0201', '0000:0000:0000:0000:0000:FFFF:192.0.2.1',
    '2001:db8::1', '2001:DB8::1', '2001:0db8:0000:0000:0000:0000:0000:0001', '2001:db8::1%eth0'
  ]
  for (const remoteAddress of spellings) t.equal((await app.inject({ url: '/', remoteAddress })).statusCode, 403, remoteAddress)
})

t.test('keeps the caller\'s later changes out of a compiled list', async (t) => {
  const allow = ['10.0.0.1']
  const app = await served({ allow })
  allow.push('192.0.2.1')
  t.equal((await app.inject({ url: '/', remoteAddress: '192.0.2.1' })).statusCode, 403)
})

t.test('takes anything but a plain answer of a set that somebody else wrote for a refusal', async (t) => {
  for (const answer of [undefined, null, 0, 1, '', 'no', {}, Promise.resolve(true)]) {
    const set = { size: 1, warnings: [], warningCount: 0, has: () => answer, hasParsed: () => answer } as unknown as AddressSet
    for (const lists of [{ allow: set }, { deny: set }]) {
      t.equal((await (await served(lists)).inject('/')).statusCode, 403, `${JSON.stringify(Object.keys(lists))}: ${JSON.stringify(answer)}`)
    }
  }
})

t.test('shuts everybody out of lists by tenant where no tenant was proved, also as a hook that no audit sees', async (t) => {
  const app = Fastify()
  await app.register(ipAllowlist, { tenants: { acme: { allow: ['127.0.0.1'] } }, tenantWithoutList: 'allow' })
  app.addHook('onRequest', app.ipAllowlist)
  app.get('/', () => 'served')
  t.equal((await app.inject('/')).statusCode, 403)
})

t.test('refuses an entry of a family that is not served, wherever it stands', async (t) => {
  for (const [i, allow] of [['2001:db8::/32', '10.0.0.1'], ['10.0.0.1', '2001:db8::/32'], ['10.0.0.1', '10.0.0.2', '::1']].entries()) {
    await t.rejects(served({ families: ['ipv4'], allow }), new RegExp(`"allow\\[${i}\\]" is not of a family`))
  }
})

t.test('tells a refused client nothing of the lists', async (t) => {
  const app = await served({ allow: ['10.0.0.1'], deny: ['192.0.2.1'] })
  const [denied, notAllowed] = await Promise.all(['192.0.2.1', '198.51.100.1'].map((remoteAddress) => app.inject({ url: '/', remoteAddress })))
  t.equal(denied!.body, notAllowed!.body)
  t.notMatch(denied!.body, /10\.0\.0\.1|192\.0\.2\.1/)
})

t.test('judges the proxy itself with source: socket, whatever it or its client says', async (t) => {
  const listening = async (options: IpAllowlistOptions): Promise<number> => {
    const app = await served(options, { trustProxy: true })
    t.teardown(() => app.close())
    await app.listen({ port: 0, host: '127.0.0.1' })
    return (app.server.address() as AddressInfo).port
  }
  const behindProxy = async (port: number, said: string): Promise<number> => {
    const proxy = createServer((incoming, outgoing) => {
      const before = incoming.headers['x-forwarded-for']
      const headers = { ...incoming.headers, 'x-forwarded-for': [before ?? [], incoming.socket.remoteAddress].flat().join(', ') }
      forward({ port, host: '127.0.0.1', path: incoming.url, headers }, (answer) => {
        outgoing.writeHead(answer.statusCode!)
        answer.pipe(outgoing)
      }).end()
    })
    proxy.listen(0, '127.0.0.1')
    await once(proxy, 'listening')
    t.teardown(() => proxy.close())
    return (await rawRequest((proxy.address() as AddressInfo).port, ['GET / HTTP/1.1', `X-Forwarded-For: ${said}`, `X-Real-IP: ${said}`, `Forwarded: for=${said}`])).status
  }
  const proxiesOnly = await listening({ source: 'socket', allow: ['127.0.0.1'] })
  const clientsOnly = await listening({ source: 'socket', allow: ['192.0.2.1'] })
  const noClients = await listening({ source: 'socket', deny: ['192.0.2.1'] })
  for (const said of ['192.0.2.1', '127.0.0.1, 192.0.2.1', 'unknown', '::ffff:192.0.2.1']) {
    t.equal(await behindProxy(proxiesOnly, said), 200, said)
    t.equal(await behindProxy(clientsOnly, said), 403, said)
    t.equal(await behindProxy(noClients, said), 200, said)
  }
})

t.test('lets nobody choose the address that stands in the audit trail, or that a change may not shut out', async (t) => {
  const store = memoryListStore({ lists: { office: ['10.0.0.1', '192.0.2.1'] } })
  const app = Fastify({ trustProxy: ['127.0.0.1'] })
  await app.register(guard)
  await app.register(allowlistRoutes, { policy: adminGuard(), store, prefix: '/lists' })
  const spoofed = { 'x-user': 'admin', 'if-match': '*', 'x-forwarded-for': '192.0.2.1', 'x-real-ip': '192.0.2.1', 'forwarded': 'for=192.0.2.1' }
  const change = (payload: object) => app.inject({ method: 'PATCH', url: '/lists/office', remoteAddress: '10.0.0.1', headers: spoofed, payload })
  t.equal((await change({ remove: ['10.0.0.1'] })).statusCode, 409)
  t.equal((await change({ add: ['10.0.0.2'] })).statusCode, 200)
  t.match(await store.history('office', 1), [{ by: { address: '10.0.0.1' } }])
})

t.test('keeps a misspelt end from making an entry count for ever', async (t) => {
  const store = memoryListStore({ lists: { office: ['10.0.0.1'] } })
  const app = Fastify()
  await app.register(guard)
  await app.register(allowlistRoutes, { policy: adminGuard(), store })
  for (const misspelt of ['expires', 'expiresat', 'expires_at', 'ExpiresAt', 'validUntil']) {
    const payload = { add: [{ entry: '192.0.2.1', [misspelt]: '2020-01-01T00:00:00Z' }] }
    const response = await app.inject({ method: 'PATCH', url: '/office', headers: { 'x-user': 'admin' }, payload })
    t.equal(response.statusCode, 422, misspelt)
    t.throws(() => createAddressSet(payload.add), /no other members/)
  }
  t.same((await store.read('office'))!.entries, ['10.0.0.1'])
})

t.test('takes no list for another because of its name', async (t) => {
  const store = memoryListStore({ lists: { office: ['10.0.0.1'] } })
  for (const list of ['__proto__', 'constructor', 'toString', 'Office', 'office ', 'office\0', '../office']) {
    const app = await served({ store, allow: { list } })
    t.equal((await app.inject({ url: '/', remoteAddress: '10.0.0.1' })).statusCode, 403, JSON.stringify(list))
    await app.close()
  }
})

t.test('tells nobody what a list holds, in events of decisions either', async (t) => {
  const said: unknown[] = []
  const store = memoryListStore({ lists: { office: [{ entry: '10.0.0.1', note: 'the director at home' }] } })
  const app = await served({ store, allow: { list: 'office' }, onDecision: (decision) => said.push(decision) })
  const response = await app.inject({ url: '/', remoteAddress: '192.0.2.1' })
  await app.close()
  t.notMatch(JSON.stringify([said, response.body, response.headers]), /10\.0\.0\.1|director|office/)
})
