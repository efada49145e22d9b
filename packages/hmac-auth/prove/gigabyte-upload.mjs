// A signed upload of 1 GB that the handler drains to a temporary file: what it costs in memory, and what becomes of a wrong last byte.
import { createHash, randomBytes } from 'node:crypto'
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createWriteStream, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { text } from 'node:stream/consumers'
import { setInterval } from 'node:timers'
import { setTimeout as sleep } from 'node:timers/promises'
import { bodyVerified, memoryStore } from '@sallyport/guard'
import Fastify from 'fastify'
import { createRequestSigner, hmacAuth } from '../dist/index.js'

const keyId = 'uploader'
const secret = Buffer.alloc(32, 'a secret of this proof alone')
const pieces = 1_024
const maxMegabytes = 50

if (process.send === undefined) await prove()
else await serve()

async function serve () {
  const app = Fastify({ bodyLimit: 2 ** 31 })
  const folder = mkdtempSync(join(tmpdir(), 'sallyport-upload-'))
  await app.register(hmacAuth, { keys: [{ id: keyId, secret, tenant: 'acme' }], store: memoryStore({ maxEntries: 100 }) })
  app.addContentTypeParser('application/octet-stream', (_request, payload, done) => { done(null, payload) })
  app.put('/', { onRequest: app.hmacAuth.require({ body: 'stream' }) }, async (incoming) => {
    const path = join(folder, String(incoming.id))
    try {
      await pipeline(incoming.body, createWriteStream(path))
      await bodyVerified(incoming)
      return { path, isThere: existsSync(path) }
    } catch (error) {
      rmSync(path)
      throw error
    }
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  let most = 0
  setInterval(() => { most = Math.max(most, process.memoryUsage().rss) }, 5).unref()
  process.on('message', (question) => {
    if (question === 'files') process.send({ files: readdirSync(folder).length })
    else {
      globalThis.gc()
      const now = process.memoryUsage().rss
      process.send({ now, most })
      most = now
    }
  })
  process.on('disconnect', () => { rmSync(folder, { recursive: true }); process.exit() })
  process.send({ port: app.server.address().port })
}

async function prove () {
  const server = fork(import.meta.filename, { execArgv: ['--expose-gc'] })
  const [{ port }] = await once(server, 'message')
  const ask = async (question) => {
    server.send(question)
    const [answer] = await once(server, 'message')
    return answer
  }
  const piece = randomBytes(1_048_576)
  const hash = createHash('sha256')
  for (let i = 0; i < pieces; i++) hash.update(piece)
  const digest = hash.digest('base64')
  // A memory store refuses what is dated in the second that it was made in.
  await sleep(1_500)

  const upload = async (count, last) => {
    const url = `http://127.0.0.1:${port}/`
    const given = { 'content-type': 'application/octet-stream', 'content-digest': `sha-256=:${digest}:` }
    const headers = { ...given, ...createRequestSigner({ keyId, secret }).sign({ method: 'PUT', url, headers: given }) }
    const sent = request(url, { method: 'PUT', headers: { ...headers, 'content-length': String(count * piece.length) } })
    const answered = once(sent, 'response')
    for (let i = 0; i < count; i++) if (!sent.write(i === count - 1 ? last : piece)) await once(sent, 'drain')
    sent.end()
    const [response] = await answered
    return { status: response.statusCode, body: await text(response) }
  }
  const changed = Buffer.from(piece)
  changed[changed.length - 1] ^= 1

  // What a first request brings up for good is not the upload's.
  await upload(8, piece)
  const before = await ask('memory')
  const right = await upload(pieces, piece)
  const after = await ask('memory')
  const megabytes = Math.round((after.most - before.now) / 1e6)
  say({ name: 'a signed upload of 1 GB: added resident memory at its most', value: megabytes, unit: 'MB', target: `< ${maxMegabytes}`, holds: megabytes < maxMegabytes })
  say({ name: 'a signed upload of 1 GB: status', value: right.status, unit: '', target: '= 200', holds: right.status === 200 && JSON.parse(right.body).isThere })
  const kept = (await ask('files')).files
  const wrong = await upload(pieces, changed)
  say({ name: 'the same with a wrong last byte: status', value: wrong.status, unit: '', target: '= 401', holds: wrong.status === 401 })
  const left = (await ask('files')).files - kept
  say({ name: 'the same with a wrong last byte: files left', value: left, unit: 'files', target: '= 0', holds: left === 0 })
  server.disconnect()
}

function say (fact) {
  console.log(JSON.stringify(fact))
  if (!fact.holds) process.exitCode = 1
}
