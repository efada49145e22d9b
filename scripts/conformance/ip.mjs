/** ip.json: which addresses a list holds, which lists are refused, and whose address a request has behind proxies. */

import { isIP } from 'node:net'
import { isOptionsError } from '@sallyport/guard'
import Fastify from 'fastify'
import { designRules, Tally } from './tally.mjs'

const everyAddress = { allow: ['0.0.0.0/0', '::/0'] }

/** Runs every vector against the plugin `ipAllowlist`, and lists of texts against `createAddressSet` too. */
export async function runIp ({ vectors }, { ipAllowlist, createAddressSet }) {
  const tally = new Tally('ip.json')
  const groups = new Map()
  for (const vector of vectors) {
    await tally.attempt(vector, async () => {
      const answer = vector.type === 'client-ip' ? await clientAddress(vector, ipAllowlist, tally) : await membership(vector, { ipAllowlist, createAddressSet, tally })
      if (vector.group !== undefined) groups.set(vector.group, [...groups.get(vector.group) ?? [], { vector, answer }])
    })
  }
  for (const [group, members] of groups) {
    if (new Set(members.map(({ answer }) => answer)).size > 1) tally.fail(members[0].vector, `the group "${group}" got different answers`)
  }
  return tally
}

/** Types `config` and `membership`: the list alone decides. */
async function membership (vector, { ipAllowlist, createAddressSet, tally }) {
  const { app, refusal, ask } = await openApp(ipAllowlist, vector.list)
  if (refusal !== undefined || vector.type === 'config') {
    const answer = refusal === undefined ? 'valid-config' : 'invalid-config'
    tally.judge(vector, isRight(vector, answer), `${answer}${refusal === undefined ? '' : ` (${refusal})`}, expected: ${vector.expect}`)
    await app?.close()
    return answer
  }
  const found = await ask({ peer: vector.ip, limits: vector.limits })
  const faults = [...limitFaults(vector, found), ...setFaults(vector, found, createAddressSet)]
  if (faults.length > 0) tally.fail(vector, faults.join('; '))
  else tally.judge(vector, isRight(vector, found.answer), `${found.answer}, expected: ${vector.expect}`)
  await app.close()
  return found.answer
}

/** Type `client-ip`: Fastify finds the address by its `trustProxy`, which the plugin must have found safe. */
async function clientAddress (vector, ipAllowlist, tally) {
  const { list = everyAddress, trust } = vector
  const isUnsafe = trust === 'all' || typeof trust === 'number'
  const { app, refusal, ask } = await openApp(ipAllowlist, list, { trustProxy: trust === 'all' ? true : trust === 'none' ? false : trust })
  if (refusal !== undefined) {
    if (isUnsafe && refusal.includes('trustProxy')) tally.refuse(vector, designRules.proxies)
    else tally.fail(vector, `registration was refused: ${refusal}`)
    return 'refused'
  }
  if (isUnsafe) {
    tally.fail(vector, 'registered, though such a trustProxy lets clients choose their address')
    await app.close()
    return 'registered'
  }
  const xff = vector.xff === null || vector.xff === undefined ? {} : { 'x-forwarded-for': [vector.xff].flat().join(', ') }
  const found = await ask({ peer: vector.remote, limits: vector.limits, headers: { ...Object.fromEntries(vector.headers ?? []), ...xff } })
  const faults = limitFaults(vector, found)
  const expected = vector.expect ?? (isIP(vector.expect_client_ip) === 0 ? 'deny' : 'allow')
  const isKnown = found.clientIp === vector.expect_client_ip
  if (faults.length > 0) tally.fail(vector, faults.join('; '))
  else {
    const what = `${found.answer} for ${found.clientIp}, expected: ${expected} for ${vector.expect_client_ip}`
    const reason = found.clientIp === vector.fastify_ip ? 'request.ip is what Fastify makes of the chain (@fastify/proxy-addr reads these spellings as addresses of trusted proxies)' : undefined
    tally.judge(vector, isKnown && isRight({ ...vector, expect: expected }, found.answer), what, reason)
  }
  await app.close()
  return found.answer
}

async function openApp (ipAllowlist, list, server = {}) {
  const app = Fastify({ logger: false, ...server })
  try {
    await app.register(ipAllowlist, { ...list, allowAny: true })
  } catch (error) {
    await app.close()
    if (isOptionsError(error)) return { refusal: error.message }
    throw error
  }
  // `inject` takes a text that isn't empty as the peer's address; sockets have been seen with other things.
  const seen = { peer: undefined, clientIp: undefined }
  app.addHook('onRequest', async (request) => {
    request.raw.socket.remoteAddress = seen.peer
    seen.clientIp = request.ip
  })
  app.get('/', { onRequest: app.ipAllowlist }, () => 'allowed')
  await app.ready()

  /** Up to three times if it took too long, since the machine may have been busy with something else. */
  async function ask ({ peer, headers, limits = {} }, rounds = 3) {
    seen.peer = peer
    const startedAt = performance.now()
    const { statusCode } = await app.inject({ url: '/', headers })
    const milliseconds = performance.now() - startedAt
    if (milliseconds > (limits.max_ms ?? Infinity) && rounds > 1) return ask({ peer, headers, limits }, rounds - 1)
    return { answer: statusCode === 200 ? 'allow' : statusCode === 403 ? 'deny' : `status ${statusCode}`, milliseconds, clientIp: seen.clientIp }
  }
  return { app, ask }
}

function isRight ({ expect, also_ok: others = [], either = false }, answer) {
  return answer === expect || others.includes(answer) || (either && (answer === 'allow' || answer === 'deny'))
}

function limitFaults ({ limits = {} }, { milliseconds }) {
  return milliseconds > (limits.max_ms ?? Infinity) ? [`took ${Math.round(milliseconds)} ms`] : []
}

/** What the plugin answers must be what the compiled sets hold. */
function setFaults ({ list, ip }, { answer }, createAddressSet) {
  const holds = (entries) => createAddressSet(entries, { allowAny: true }).has(ip)
  const isDenied = list.deny !== undefined && holds(list.deny)
  const isAllowed = list.allow === undefined || holds(list.allow)
  const isReadable = createAddressSet(everyAddress.allow, { allowAny: true }).has(ip)
  return (isReadable && isAllowed && !isDenied) === (answer === 'allow') ? [] : ['createAddressSet and the plugin disagree']
}
