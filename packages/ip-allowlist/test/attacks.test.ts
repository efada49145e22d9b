import t from 'tap'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import { rawRequest } from '@sallyport/test-kit'
import { ipAllowlist, type AddressSet, type IpAllowlistOptions } from '../src/index.js'

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
