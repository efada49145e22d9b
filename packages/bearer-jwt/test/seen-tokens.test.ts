import { createHmac } from 'node:crypto'
import t from 'tap'
import { SeenTokens } from '../src/seen-tokens.js'
import { isRefused, testApp } from './fixtures/app.js'
import { claims, hmacToken, otherSecret } from './fixtures/tokens.js'

const token = (number: number): string => `e30.e30.${createHmac('sha256', 'x').update(String(number)).digest('base64url')}`

t.test('knows every token that it has been told of, and hardly another', async (t) => {
  const seen = new SeenTokens(1_000)
  let mistaken = 0
  for (let i = 0; i < 2_000; i++) {
    if (seen.has(token(i))) mistaken++
    seen.add(token(i))
  }
  t.ok(mistaken < 200, `${mistaken} of 2000 were taken for known ones`)
  for (let i = 0; i < 2_000; i++) if (!seen.has(token(i))) t.fail(`forgets token ${i}`)
})

t.test('forgets before it is full of mistakes', async (t) => {
  const seen = new SeenTokens(10)
  for (let i = 0; i < 10_000; i++) seen.add(token(i))
  let mistaken = 0
  for (let i = 10_000; i < 11_000; i++) if (seen.has(token(i))) mistaken++
  t.ok(mistaken < 300, `${mistaken} of 1000 were taken for known ones`)
  t.ok(seen.has(token(9_999)), 'the last is known')
})

t.test('takes whatever a client sends', async (t) => {
  const seen = new SeenTokens(1)
  for (const text of ['', 'a', '\u0000\uffff', 'x'.repeat(8_192)]) {
    t.equal(seen.has(text), false, `${text.length} characters`)
    t.equal(seen.has(text), false, 'asking tells it nothing')
  }
})

t.test('a wrong token is no token that was seen', async (t) => {
  const { send, handlerRuns } = await testApp(t)
  const wrong = hmacToken(claims, otherSecret)
  for (let i = 0; i < 3; i++) isRefused(t, await send(wrong), 'ERR_BEARER_JWT_TOKEN_INVALID')
  const right = hmacToken(claims)
  const forged = `${right.slice(0, right.lastIndexOf('.') - 1)}${right.slice(right.lastIndexOf('.'))}`
  for (let i = 0; i < 3; i++) t.equal((await send(right)).statusCode, 200)
  isRefused(t, await send(forged), 'ERR_BEARER_JWT_TOKEN_INVALID', 'the end of a known token makes no other token known')
  t.equal(handlerRuns(), 3)
})
