import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { findLeaks } from '@sallyport/test-kit'
import t from 'tap'
import { connect, hasRedisServer, needs, OwnRedis, TokenProcess, until } from './fixtures/processes.js'
import { secret } from './fixtures/tokens.js'

const url = process.env['REDIS_URL'] ?? 'redis://127.0.0.1:6379'
const prefix = `sallyport-test:${randomUUID()}:`
const redis = await connect(url).catch(() => undefined)
const revoked = '401 ERR_BEARER_JWT_TOKEN_REVOKED'
const reused = { code: 'ERR_BEARER_JWT_REFRESH_REUSED' }
const invalid = { code: 'ERR_BEARER_JWT_REFRESH_INVALID' }
const request = { subject: 'boomi', tenant: '100001', purpose: 'Boomi Integration' }

/** In other processes a revocation counts after this time at the latest: the default of `maxStalenessSeconds`. */
const MAX_STALENESS_MS = 1_000

/**
 * Asks every 25 ms until the token is revoked, for 5 s at most. Resolves with the last answer, and with how long after the
 * revocation a request was sent that was still accepted: to count from the sending leaves out how slowly the machine answers.
 */
async function untilRevoked (each: TokenProcess, token: string, revokedAt: number): Promise<{ readonly answer: string, readonly acceptedForMs: number }> {
  for (let acceptedForMs = 0; ;) {
    const afterMs = performance.now() - revokedAt
    const answer = await each.ask('request', token)
    if (answer === '200') acceptedForMs = afterMs
    if (answer === revoked || afterMs > 5_000) return { answer, acceptedForMs }
    await sleep(25)
  }
}

async function keysIn (): Promise<string[]> {
  const found: string[] = []
  for await (const keys of redis!.scanStream({ match: `${prefix}*`, count: 1_000 })) found.push(...keys as string[])
  return found
}

t.test('four processes on one Redis', needs(redis === undefined ? `no Redis answers at ${url}` : undefined), async (t) => {
  t.teardown(async () => {
    const keys = await keysIn()
    if (keys.length > 0) await redis!.del(keys)
    redis!.disconnect()
  })
  const start = (retrySeconds = 10): Promise<TokenProcess> => TokenProcess.start(t, { url, prefix, retrySeconds })
  const processes = await Promise.all([start(), start(), start(), start()])
  const [first, second] = processes
  const issued: string[] = []
  const issuePair = async () => {
    const pair = await first.ask('issuePair', request)
    issued.push(pair.access.token, pair.refresh.token)
    return pair
  }

  await t.test('give 50 concurrent refreshes one successor', async (t) => {
    const pair = await issuePair()
    const answers = await Promise.all(processes.map((each, i) => each.ask('times', 'refresh', pair.refresh.token, i < 2 ? 13 : 12)))
    t.equal(answers.flat().length, 50)
    t.equal(new Set(answers.flat().map(({ refresh }) => refresh.id)).size, 1)
    t.equal(new Set(answers.flat().map(({ access }) => access.token)).size, 1)
    issued.push(answers[0]![0]!.refresh.token)
    t.match(await second.ask('refresh', answers[0]![0]!.refresh.token), { family: pair.family })
  })

  await t.test('stop the access tokens of a family when one of them sees a reuse: itself at once, the others within a second', async (t) => {
    const pair = await issuePair()
    const next = await second.ask('refresh', pair.refresh.token)
    await first.ask('refresh', next.refresh.token)
    for (const each of processes) t.equal(await each.ask('request', next.access.token), '200')
    await t.rejects(second.ask('refresh', pair.refresh.token), reused)
    const revokedAt = performance.now()
    const atOnce = await second.ask('request', next.access.token)
    t.equal(atOnce, revoked)
    for (const { answer, acceptedForMs } of await Promise.all(processes.map((each) => untilRevoked(each, next.access.token, revokedAt)))) {
      t.equal(answer, revoked)
      t.ok(acceptedForMs < MAX_STALENESS_MS, `accepted for ${acceptedForMs.toFixed()} ms`)
    }
    await t.rejects(first.ask('refresh', next.refresh.token), invalid)
  })

  await t.test('refuse what a process revoked that was killed right after, and so does its successor', async (t) => {
    const [pair, tenant] = [await issuePair(), await first.ask('issue', { ...request, tenant: '200002' })]
    const doomed = await start()
    await doomed.ask('revoke', { family: pair.family })
    await doomed.ask('revoke', { tenant: '200002' })
    const elsewhere = untilRevoked(first, tenant.token, performance.now())
    await doomed.kill()
    const restarted = await start()
    t.equal(await restarted.ask('request', pair.access.token), revoked)
    t.equal(await restarted.ask('request', tenant.token), revoked)
    await t.rejects(restarted.ask('refresh', pair.refresh.token), invalid)
    const { answer, acceptedForMs } = await elsewhere
    t.equal(answer, revoked)
    t.ok(acceptedForMs < MAX_STALENESS_MS, `accepted for ${acceptedForMs.toFixed()} ms`)
    t.same((await restarted.ask('list', request.subject)).find(({ id }) => id === pair.family)?.revoked, true)
  })

  await t.test('see the reuse of a refresh token whose user was killed', async (t) => {
    const pair = await issuePair()
    const doomed = await start(0)
    issued.push((await doomed.ask('refresh', pair.refresh.token)).refresh.token)
    await doomed.kill()
    const restarted = await start(0)
    t.equal(await restarted.ask('request', pair.access.token), '200')
    await t.rejects(restarted.ask('refresh', pair.refresh.token), reused)
    t.equal(await restarted.ask('request', pair.access.token), revoked)
  })

  await t.test('keep neither a token nor a secret in Redis, nor show one in the list', async (t) => {
    const values = await Promise.all((await keysIn()).map(async (key) => ({ where: key, text: `${key} ${await redis!.get(key) ?? ''}` })))
    t.ok(values.length > 8)
    const listed = await first.ask('list', request.subject)
    t.ok(listed.length > 3)
    const secrets = issued.flatMap((token) => [token, token.split('.')[2]!])
    t.same(findLeaks([...values, { where: 'list', text: JSON.stringify(listed) }], [...secrets, secret.toString()]), [])
  })
})

t.test('a Redis that goes away', needs(hasRedisServer() ? undefined : 'there is no redis-server to start'), async (t) => {
  const own = new OwnRedis()
  await own.start()
  t.teardown(async () => own.kill())
  const service = await TokenProcess.start(t, { url: own.url, prefix })
  const pair = await service.ask('issuePair', request)
  const unavailable = '503 ERR_BEARER_JWT_STATE_UNAVAILABLE'

  const refusesSoon = async (): Promise<void> => {
    await sleep(1_100)
    for (const [act, given, wanted] of [['request', pair.access.token, unavailable], ['refresh', pair.refresh.token, 'ERR_BEARER_JWT_STATE_UNAVAILABLE'], ['revoke', { family: pair.family }, 'ERR_BEARER_JWT_STATE_UNAVAILABLE']] as const) {
      const { value, code, tookMs } = await service.tell(act, [given])
      t.equal(value ?? code, wanted, act)
      t.ok(tookMs < 500, `within 500 ms: ${tookMs.toFixed()}`)
    }
  }

  own.signal('SIGSTOP')
  await refusesSoon()
  own.signal('SIGCONT')
  t.equal(await until(() => service.ask('request', pair.access.token), '200', 5_000), '200', 'recovers where nothing was lost')

  await own.kill()
  await refusesSoon()
  await own.start()
  t.equal(await until(() => service.ask('request', pair.access.token), '200', 5_000), '200', 'recovers')
  await service.ask('revoke', { family: pair.family })
  t.equal(await service.ask('request', pair.access.token), revoked)
})
