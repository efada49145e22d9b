import { execFile, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { memoryStore } from '@sallyport/guard'
import Fastify from 'fastify'
import t, { type Test } from 'tap'
import { runCommand } from '../src/command.js'
import { authorizationHmac, createRequestSigner, headers, hmacAuth, layeredGateway, rfc9421, signedFetch, type Profile } from '../src/index.js'
import { KEY_ID, secret, SECRET_TEXT, TENANT } from './fixtures/app.js'

const exec = promisify(execFile)
const needsCurl = spawnSync('curl', ['--version']).status === 0 ? {} : { skip: 'there is no curl' }
const profiles: Readonly<Record<string, Profile>> = {
  'rfc9421': rfc9421({ algorithms: ['hmac-sha256'], label: 'erp' }),
  'headers': headers(),
  'layered-gateway': headers(layeredGateway),
  'headers over the body': headers({ digest: false, separator: '|', encoding: 'base64', prefix: 'sha256=', parts: ['timestamp', 'nonce', 'key-id', 'method', 'authority', 'target', 'body'] }),
  'headers over its SHA-256': headers({ digest: false, timestampFormat: 'http-date' }),
  'kong': authorizationHmac({ dialect: 'kong', accepts: ['no-nonce', 'no-key-id'] }),
  'apisix': authorizationHmac({ dialect: 'apisix', accepts: ['no-nonce'] }),
  'cavage': authorizationHmac({ dialect: 'cavage', accepts: ['no-nonce', 'no-key-id'], timestamp: '(created)' })
}

interface Server { readonly origin: string }

/** A server on a port of its own that answers with what it was sent. */
async function serve (t: Test, profile: Profile): Promise<Server> {
  const app = Fastify()
  t.teardown(() => app.close())
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => { done(null, body) })
  // Made a little earlier than the first request, whose time is in whole seconds.
  const store = memoryStore({ clock: () => Date.now() - 10_000 })
  await app.register(hmacAuth, { profile, keys: [{ id: KEY_ID, secret, tenant: TENANT }], store })
  app.route({
    method: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'],
    url: '/*',
    onRequest: app.hmacAuth,
    handler: ({ method, url, body }, reply) => url === '/moved' ? reply.redirect('/elsewhere') : { method, url, body: Buffer.isBuffer(body) ? body.toString('hex') : '' }
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { origin: `http://127.0.0.1:${(app.server.address() as AddressInfo).port}` }
}

const hex = (body: string | Uint8Array): string => Buffer.from(body as string).toString('hex')

for (const [name, profile] of Object.entries(profiles)) {
  t.test(`${name}: what the client signs, the server accepts`, async (t) => {
    const { origin } = await serve(t, profile)
    const send = signedFetch({ profile, keyId: KEY_ID, secret })
    const cases: readonly (readonly [RequestInit & { method: string }, string])[] = [
      [{ method: 'GET' }, ''],
      [{ method: 'HEAD' }, ''],
      [{ method: 'POST', body: '{"a":"é"}', headers: { 'content-type': 'application/json' } }, hex('{"a":"é"}')],
      [{ method: 'POST', body: Buffer.from([0, 0xff, 0xfe, 0x80]), headers: { 'content-type': 'application/octet-stream' } }, '00fffe80'],
      [{ method: 'POST', body: new URLSearchParams({ a: '1 2' }) }, hex('a=1+2')],
      [{ method: 'PUT', body: '' }, ''],
      [{ method: 'DELETE' }, ''],
      [{ method: 'PATCH', body: '[]', headers: { 'content-type': 'application/json' } }, hex('[]')]
    ]
    for (const [init, body] of cases) {
      const url = `${origin}/v3.0/orders?page=2&q=%C3%A9`
      const answer = await send(url, init)
      const found = init.method === 'HEAD' ? undefined : await answer.json()
      t.equal(answer.status, 200, `${init.method} ${JSON.stringify(found)}`)
      if (init.method !== 'HEAD') t.same(found, { method: init.method, url: '/v3.0/orders?page=2&q=%C3%A9', body })
    }
    const form = new FormData()
    form.set('file', new Blob(['content']), 'a.txt')
    t.equal((await send(`${origin}/upload`, { method: 'POST', body: form })).status, 200, 'a form')
    t.equal((await send(new Request(`${origin}/again`, { method: 'POST', body: 'x' }))).status, 200, 'a Request')
    t.equal((await signedFetch({ profile, keyId: KEY_ID, secret: Buffer.alloc(32) })(`${origin}/`)).status, 401)
  })

  t.test(`${name}: a body sent in chunks is accepted`, async (t) => {
    const { origin } = await serve(t, profile)
    const body = Buffer.alloc(200_000, 'chunk')
    const fields = createRequestSigner({ profile, keyId: KEY_ID, secret }).sign({ method: 'POST', url: `${origin}/upload`, headers: { 'content-type': 'text/x' }, body })
    const request = httpRequest(`${origin}/upload`, { method: 'POST', headers: { 'content-type': 'text/x', 'transfer-encoding': 'chunked', ...fields } })
    for (let at = 0; at < body.length; at += 50_000) request.write(body.subarray(at, at + 50_000))
    request.end()
    const [response] = await once(request, 'response') as [{ statusCode: number, resume: () => void }]
    response.resume()
    t.equal(response.statusCode, 200)
  })
}

t.test('a stream whose digest is known beforehand is sent as it comes', async (t) => {
  const { origin } = await serve(t, rfc9421())
  const send = signedFetch({ keyId: KEY_ID, secret })
  const stream = (): ReadableStream => new Blob(['streamed']).stream()
  const digest = { 'content-digest': `sha-256=:${createHash('sha256').update('streamed').digest('base64')}:`, 'content-type': 'text/x' }
  const answer = await send(`${origin}/upload`, { method: 'POST', body: stream(), headers: digest, duplex: 'half' })
  t.equal(answer.status, 200, await answer.clone().text())
  const wrong = await send(`${origin}/upload`, { method: 'POST', body: new Blob(['other']).stream(), headers: digest, duplex: 'half' })
  t.equal((await wrong.json() as { code: string }).code, 'ERR_HMAC_AUTH_DIGEST_INVALID')
})

t.test('redirects are not followed with a signature that is not theirs', async (t) => {
  const { origin } = await serve(t, rfc9421())
  const answer = await signedFetch({ keyId: KEY_ID, secret })(`${origin}/moved`)
  t.same([answer.status, answer.headers.get('location')], [302, '/elsewhere'])
})

t.test('headers may come as a Headers object, and text as bytes', async (t) => {
  const signer = createRequestSigner({ keyId: KEY_ID, secret, clock: () => 0, nonce: () => 'n', profile: rfc9421({ covers: ['x-shop'] }) })
  const url = new URL('https://api.example/')
  t.same(signer.sign({ url, headers: new Headers({ 'X-Shop': '7' }) }), signer.sign({ url, headers: { 'x-shop': '7' } }))
  t.same(signer.sign({ url, headers: { 'x-shop': '7' }, body: 'é', method: 'POST' }), signer.sign({ url, headers: { 'x-shop': '7' }, body: Buffer.from('é'), method: 'POST' }))
})

// The command

async function run (args: readonly string[], env: Record<string, string> = { SECRET: SECRET_TEXT }) {
  const printed = { out: '', error: '' }
  const code = await runCommand(args, { env, out: (text) => { printed.out += text }, error: (text) => { printed.error += text }, clock: Date.now })
  return { code, ...printed }
}

for (const [name, profile] of Object.entries(profiles).filter(([name]) => !name.includes(' '))) {
  t.test(`the command signs for ${name}, and curl sends it`, needsCurl, async (t) => {
    const { origin } = await serve(t, name === 'cavage' ? authorizationHmac({ dialect: 'cavage', accepts: ['no-nonce', 'no-key-id'] }) : name === 'rfc9421' ? rfc9421() : profile)
    const folder = mkdtempSync(join(tmpdir(), 'sallyport-'))
    t.teardown(() => { rmSync(folder, { recursive: true }) })
    writeFileSync(join(folder, 'secret'), `${SECRET_TEXT}\n`)
    writeFileSync(join(folder, 'body'), Buffer.from([0, 10, 13, 0xff]))
    const common = ['sign', '--key-id', KEY_ID, '--profile', name]
    const commands: readonly (readonly string[])[] = [
      [...common, '--secret-env', 'SECRET', `${origin}/orders?q=it's`],
      [...common, '--secret-file', join(folder, 'secret'), '-X', 'PUT', '-H', 'Content-Type: text/x', '-d', 'it\'s "quoted" $HOME `x`', `${origin}/orders`],
      [...common, '--secret-env', 'SECRET', '--data-file', join(folder, 'body'), '-H', 'content-type: application/octet-stream', `${origin}/orders`],
      [...common, '--secret-env', 'SECRET', '-X', 'DELETE', `${origin}/orders/7`]
    ]
    for (const args of commands) {
      const { code, out, error } = await run(args)
      t.equal(code, 0, error)
      t.notMatch(out, SECRET_TEXT)
      const { stdout } = await exec('sh', ['-c', `${out.trim()} -sS -o /dev/null -w '%{http_code}'`])
      t.equal(stdout, '200', out)
      t.equal((await exec('sh', ['-c', `${out.trim()} -sS -w '%{http_code}'`])).stdout.slice(-3), '401', 'once')
    }
  })
}

t.test('the command explains what it signs, on standard error', async (t) => {
  const { out, error } = await run(['sign', '--key-id', KEY_ID, '--secret-env', 'SECRET', '--explain', '-d', '{}', 'https://api.example/orders'])
  t.match(error, /^"@method": POST\n"@authority": api\.example\n"@path": \/orders\n"@query": \?\n"content-digest": sha-256=/)
  t.match(out, /^curl --path-as-is -X 'POST' -H 'content-type: application\/json' /)
  t.match((await run(['sign', '--key-id', 'a', '--secret-env', 'S', '-X', 'HEAD', 'https://a.example'], { S: 'x' })).out, /^curl --path-as-is --head /)
})

t.test('the command takes secrets as text, hexadecimal and base64', needsCurl, async (t) => {
  const encodings = { utf8: SECRET_TEXT, hex: secret.toString('hex'), base64: secret.toString('base64') }
  const { origin } = await serve(t, rfc9421())
  for (const [encoding, text] of Object.entries(encodings)) {
    const { out } = await run(['sign', '--key-id', KEY_ID, '--secret-env', 'SECRET', '--secret-encoding', encoding, `${origin}/`], { SECRET: text })
    t.equal((await exec('sh', ['-c', `${out.trim()} -sS -o /dev/null -w '%{http_code}'`])).stdout, '200', encoding)
  }
})

t.test('a wrong command line is told with the usage, and a request that can\'t be signed without', async (t) => {
  const good = ['sign', '--key-id', KEY_ID, '--secret-env', 'SECRET']
  const wrong: readonly (readonly string[])[] = [
    [], ['verify', 'https://a.example'], ['sign'], [...good], [...good, 'https://a.example', 'more'], ['sign', '--secret-env', 'SECRET', 'https://a.example'],
    ['sign', '--key-id', 'a', 'https://a.example'], [...good, '--secret-file', 'x', 'https://a.example'], ['sign', '--key-id', 'a', '--secret-env', 'NONE', 'https://a.example'],
    [...good, '--profile', 'aws', 'https://a.example'], [...good, '--profile', 'constructor', 'https://a.example'], [...good, '--secret-encoding', 'rot13', 'https://a.example'], [...good, '--secret-encoding', 'hex', 'https://a.example'],
    [...good, '-H', 'no colon', 'https://a.example'], [...good, '-d', 'x', '--data-file', 'y', 'https://a.example'], [...good, '--unknown', 'https://a.example'],
    [...good, '--secret', SECRET_TEXT, 'https://a.example']
  ]
  for (const args of wrong) {
    const { code, out, error } = await run(args)
    t.same([code, out], [2, ''], args.join(' '))
    t.match(error, /npx @sallyport\/hmac-auth sign/)
  }
  for (const args of [[...good, 'not a url'], [...good, '--data-file', '/does/not/exist', 'https://a.example'], ['sign', '--key-id', 'a"b', '--secret-env', 'SECRET', 'https://a.example']]) {
    const { code, out, error } = await run(args)
    t.same([code, out], [1, ''], args.join(' '))
    t.notMatch(error, /Usage|canary/)
  }
  t.match((await run(['sign', '--key-id', KEY_ID, '--secret-file', '/does/not/exist', 'https://a.example'])).error, /^--secret-file: \/does\/not\/exist can't be read \(ENOENT\)\n$/)
})
