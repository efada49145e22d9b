/** The contract's clauses on exports, options and registration. */

import { hasIdentity, isOptionsError, type CommonOptions, type Policy } from '@sallyport/guard'
import type { FastifyInstance } from 'fastify'
import type { Test } from 'tap'
import type { AnyGuard, Contract } from './contract.js'
import type { ObservedApp } from './observed-app.js'

export async function registrationTests<O extends CommonOptions> (t: Test, contract: Contract<O>): Promise<void> {
  const { spec, route } = contract
  const { plugin, name, packageExports } = spec

  /** The route tells the two requests apart that every registration must tell apart. */
  const judgesAsEver = async (t: Test, { send, handlerRuns }: ObservedApp): Promise<void> => {
    const passed = await send(await contract.accepted())
    t.equal(passed.statusCode, 200, passed.body)
    const refusal = contract.plainRefusal()
    const refused = await send(await contract.request(refusal.request))
    t.equal(refused.statusCode, refusal.status)
    t.equal(refused.json<{ code: string }>().code, refusal.code)
    t.equal(handlerRuns(), 1)
  }

  const isTaken = (t: Test, error: unknown): void => {
    t.ok(isOptionsError(error), String(error))
    t.match(error, { option: 'as', message: new RegExp(`"${name}" is taken`) })
  }

  await t.test('is exported as default and under its own name', async (t) => {
    t.equal(packageExports[name], plugin)
    t.equal(packageExports['default'], plugin)
  })

  await t.test('refuses an unknown option by name', async (t) => {
    const { app } = contract.bare(t)
    const error = await failureOf(() => contract.register(app, { notAnOption: true } as unknown as Partial<O>))
    t.ok(isOptionsError(error), String(error))
    t.match(error, { option: 'notAnOption', message: /"notAnOption" is unknown/ })
  })

  await t.test('takes frozen options', async (t) => {
    const observed = contract.bare(t)
    await observed.app.register(plugin, deepFrozen(spec.options()))
    contract.declare(observed.app, observed.handler, contract.guardIn(observed.app))
    await judgesAsEver(t, observed)
  })

  for (const change of ['overwritten', 'removed'] as const) {
    await t.test(`keeps nothing of the options it was given: they may be ${change} later`, async (t) => {
      const observed = contract.bare(t)
      const options = spec.options()
      await observed.app.register(plugin, options)
      contract.declare(observed.app, observed.handler, contract.guardIn(observed.app))
      ruin(options, change)
      await judgesAsEver(t, observed)
    })
  }

  await t.test('guards a route alone, with onRequest: app[name] and guard never named', async (t) => {
    const observed = contract.bare(t)
    await observed.app.register(plugin, spec.options())
    contract.declare(observed.app, observed.handler, (observed.app as unknown as Record<string, Policy>)[name]!)
    await judgesAsEver(t, observed)
  })

  for (const own of ['one', 'two'] as const) {
    await t.test(`keeps scope ${own} apart from its sibling: guards, identities, realms and listeners`, async (t) => {
      const { app, send } = contract.bare(t)
      const guards: Record<string, AnyGuard> = {}
      const heard: string[] = []
      for (const scope of ['one', 'two'] as const) {
        await app.register(async (child) => {
          await child.register(plugin, { ...spec.options(), realm: `realm-${scope}`, onDecision: () => { heard.push(scope) } })
          guards[scope] = contract.guardIn(child)
          const whoPassed = (request: Parameters<ObservedApp['handler']>[0]): object => ({ one: hasIdentity(request, guards['one']!), two: hasIdentity(request, guards['two']!) })
          contract.declare(child, whoPassed, guards[scope], scope === own ? route : '/elsewhere')
        })
      }
      t.notOk(app.hasDecorator(name), 'nothing reaches the parent')
      const passed = await send(await contract.accepted())
      t.equal(passed.statusCode, 200, passed.body)
      t.same(passed.json(), { one: own === 'one', two: own === 'two' })
      t.same(heard, [own])
      const refused = await send(await contract.request(contract.plainRefusal().request))
      t.equal(refused.statusCode, contract.plainRefusal().status)
      if (refused.statusCode === 401) t.match(refused.headers['www-authenticate'], `realm="realm-${own}"`)
    })
  }

  await t.test('stands beside itself in one scope under another name', async (t) => {
    const observed = contract.bare(t)
    await contract.register(observed.app)
    await contract.register(observed.app, { as: 'secondName' } as Partial<O>)
    const second = contract.guardIn(observed.app, 'secondName')
    t.not(second, contract.guardIn(observed.app))
    contract.declare(observed.app, observed.handler, second)
    const passed = await observed.send(await contract.accepted())
    t.equal(passed.statusCode, 200, passed.body)
    t.same(passed.json<{ via: string[] }>().via, ['secondName'])
  })

  await t.test('fails loudly when its name is taken in the chain of scopes', async (t) => {
    const twice = contract.bare(t).app
    await contract.register(twice)
    isTaken(t, await failureOf(() => contract.register(twice)))

    const nested = contract.bare(t).app
    await contract.register(nested)
    isTaken(t, await failureOf(() => nested.register(async (child: FastifyInstance) => contract.register(child))))
  })
}

async function failureOf (attempt: () => PromiseLike<unknown>): Promise<unknown> {
  try {
    await attempt()
  } catch (error) {
    return error
  }
  return undefined
}

function isPlain (value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return false
  const prototype: unknown = Object.getPrototypeOf(value)
  return prototype === Object.prototype || prototype === Array.prototype || prototype === null
}

/** Freezes plain objects and lists at every depth; stores, keys and bytes stay as they are. */
function deepFrozen<T> (value: T): T {
  if (!isPlain(value)) return value
  for (const inner of Object.values(value)) deepFrozen(inner)
  return Object.freeze(value)
}

/** Ruins plain objects, lists and bytes at every depth. Methods stay: a store's are the store. */
function ruin (value: unknown, change: 'overwritten' | 'removed'): void {
  if (value instanceof Uint8Array) value.fill(0)
  if (!isPlain(value) || Object.isFrozen(value)) return
  for (const [key, inner] of Object.entries(value)) {
    ruin(inner, change)
    if (typeof inner === 'function') continue
    if (change === 'removed') delete value[key]
    else value[key] = typeof inner === 'number' ? inner + 1 : typeof inner === 'boolean' ? !inner : 'overwritten'
  }
  if (Array.isArray(value) && change === 'removed') value.length = 0
}
