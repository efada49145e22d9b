import { spawn } from 'node:child_process'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { corpusPath, findLeaks, mutationsOf, rawRequest, readCorpus, tokensOf } from '../src/index.js'
import type { Fault } from './fixtures/key-plugin.js'
import './fixtures/suite.js'

const suite = fileURLToPath(new URL('./fixtures/suite.ts', import.meta.url))

/** Which clause of the suite finds which fault. */
const clauses: Readonly<Record<Fault, RegExp>> = {
  'keeps options': /not ok \d+ - keeps nothing of the options it was given/,
  'leaks into the message': /not ok \d+ - lets no secret out/,
  'falls over': /not ok \d+ - answers nothing that a client sends with 500 or more/,
  'says nothing on 401': /not ok \d+ - keeps its challenge under a custom error handler/,
  'drops the status': /not ok \d+ - answers ERR_KEY_PLUGIN_KEY_WRONG with 401/,
  'keeps the key in the request': /not ok \d+ - lets no secret out/
}

for (const [fault, clause] of Object.entries(clauses)) {
  const child = spawn(process.execPath, [...process.execArgv, suite], { env: { ...process.env, FAULT: fault, TAP: '1' } })
  const printed = text(child.stdout)
  t.test(`the suite fails for a plugin that ${fault}`, async (t) => {
    const output = await printed
    t.match(output, clause)
    t.match(output, /ok \d+ - is exported as default and under its own name/, 'the other clauses ran')
  })
}

t.test('findLeaks sees a secret in every spelling, wherever it stands', async (t) => {
  const secret = 'canary/+key "42"'
  for (const text of [
    `x${secret}y`, encodeURIComponent(secret), JSON.stringify({ secret }), Buffer.from(`id:${secret}`).toString('hex'),
    ...['', 'a', 'ab', 'abc'].flatMap((before) => (['base64', 'base64url'] as const).map((encoding) => Buffer.from(`${before}${secret}:after`).toString(encoding)))
  ]) {
    t.not(findLeaks([{ where: 'body', text }], [secret]).length, 0, text)
  }
  t.same(findLeaks([{ where: 'body', text: 'canary key 42' }], [secret]), [])
  t.same(findLeaks([{ where: 'body', text: 'canary' }, { where: 'log line', text: 'canary' }], ['other', 'canary']), [
    { where: 'body', secret: 1, spelling: 'as it is' }, { where: 'log line', secret: 1, spelling: 'as it is' }
  ])
})

t.test('tokensOf finds what could be a token and leaves public headers alone', async (t) => {
  const tokens = tokensOf({
    'authorization': 'Bearer aaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbb.cccccccccccccccc', 'cookie': 'a=1; session=0123456789abcdef', 'x-short': 'abc', 'content-type': 'application/json'
  })
  t.ok(['aaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbb.cccccccccccccccc', 'bbbbbbbbbbbbbbbb', '0123456789abcdef'].every((token) => tokens.includes(token)))
  t.notOk(tokens.includes('abc') || tokens.includes('application/json'))
})

t.test('mutationsOf changes one thing at a time and keeps the given request', async (t) => {
  const request = { method: 'GET', url: '/', headers: { 'x-a': 'first-value', 'x-b': 'second-value' } } as const
  const before = structuredClone(request)
  const mutations = [...mutationsOf(request)]
  t.equal(new Set(mutations.map(({ title }) => title)).size, mutations.length, 'each has a title of its own')
  for (const { apply } of mutations) apply(request)
  t.same(request, before)
  t.same(mutations.find(({ title }) => title === 'without x-a')!.apply(request).headers, { 'x-b': 'second-value' })
})

t.test('rawRequest sends bytes as they are and reads the whole answer', async (t) => {
  const server = createServer((request, response) => {
    response.setHeader('set-cookie', ['a=1', 'b=2'])
    request.on('data', (chunk: Buffer) => response.write(`${request.method} ${request.url} ${request.rawHeaders.join('|')} ${chunk.toString()}`)).on('end', () => response.end())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => server.close())
  const { port } = server.address() as AddressInfo
  const answer = await rawRequest(port, ['POST //a/../%61 HTTP/1.1', 'X-Twice: 1', 'x-twice: 2', 'Content-Length: 4'], 'body')
  t.equal(answer.status, 200)
  t.same(answer.headers['set-cookie'], ['a=1', 'b=2'])
  t.match(answer.body, 'POST //a/../%61 X-Twice|1|x-twice|2|Content-Length|4|Host|localhost|Connection|close body')
  t.equal((await rawRequest(port, 'nonsense\r\n\r\n')).status, 400)
})

t.test('readCorpus names a missing file and reads one that is there', async (t) => {
  const missing: string[] = []
  t.equal(readCorpus('no-such-file.json', (reason) => { missing.push(reason) }), undefined)
  t.match(missing, [`corpus not found: ${corpusPath('no-such-file.json')} (set CORPORA_DIR)`])
  const corpus = readCorpus('hmac.json', (reason) => t.comment(reason))
  if (corpus !== undefined) t.equal(corpus.vectors.length, corpus.header['count'])
})
