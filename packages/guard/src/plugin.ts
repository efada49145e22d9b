/** The Fastify side: the `guard` plugin itself, and the one shape in which every other plugin registers its guard. */

import type { FastifyInstance, FastifyPluginAsync } from 'fastify'
import fp from 'fastify-plugin'
import { Audit, type RoutePolicy } from './audit.js'
import { OptionsError } from './errors.js'
import { assertForwardingIsSafe } from './forwarding.js'
import type { Guard, GuardDefinition, Policy } from './guard.js'
import { defineGuard } from './guard.js'
import { commonOptionNames, OptionReader, type CommonOptions, type Decision } from './options.js'
import { nodeOf, PROTOCOL } from './policy.js'
import { installStages } from './stages.js'
import { decorateRequests, kRuntime, runtimeOf, type Runtime } from './state.js'

const OWNER = '@sallyport/guard'

export interface GuardOptions {
  /**
   * `enforce`: `ready()` fails and lists every route that declares no policy. `warn`: one process warning names them.
   * Default: `enforce` where `guard` is registered by hand, `warn` where another plugin brought it in.
   */
  readonly audit?: 'enforce' | 'warn'
  /**
   * Refuses plain HTTP inside policies, `open()` aside: 403 `ERR_GUARD_HTTPS_REQUIRED`, never a redirect. `true` judges by
   * `request.protocol`, which counts `X-Forwarded-Proto` from trusted proxies only; `trustProxy: true` or a number is
   * then an `OptionsError`. `{ source: 'socket' }` judges the connection itself. Default: false.
   */
  readonly requireHttps?: boolean | { readonly source: 'request' | 'socket' }
  /** The realm in challenges of guards that name none: printable ASCII. Default: `api`. */
  readonly realm?: string
  /** A guard that has not answered by then is `unavailable` (503). Milliseconds, 1 to 60,000. Default: 2,000. */
  readonly judgeTimeoutMs?: number
  /** Milliseconds since the epoch; for tests. Default: `Date.now`. */
  readonly clock?: () => number
  /** Called with every decision of every guard in the scope. What it throws is dropped. */
  readonly onDecision?: (decision: Decision) => void
}

declare module 'fastify' {
  interface FastifyInstance {
    /** Puts one policy before every route of this scope, earlier routes and its own 404 handler included. */
    protect: (policy: Policy) => void
    /** Every route of guard's scope with its policy. */
    policies: () => readonly RoutePolicy[]
    /** The same as text, a line a route. */
    printPolicies: () => string
  }
}

export const optionNames = ['audit', 'requireHttps', 'realm', 'judgeTimeoutMs', 'clock', 'onDecision'] as const

const impliedBy = Symbol('sallyport.implied')

type GivenOptions = GuardOptions & { readonly [impliedBy]?: true }

const guardPlugin: FastifyPluginAsync<GuardOptions> = async function sallyportGuard (app, options) {
  const isImplied = (options as GivenOptions)[impliedBy] === true
  if (runtimeOf(app) !== undefined) throw new OptionsError(OWNER, 'register', 'was called where guard is already registered; register it once, before the plugins that use it')
  const reader = new OptionReader(OWNER, options, optionNames)
  const mode = reader.oneOf('audit', ['enforce', 'warn'], isImplied ? 'warn' : 'enforce')
  const runtime: Runtime = Object.freeze({
    protocol: PROTOCOL,
    realm: reader.realm('api'),
    judgeTimeoutMs: reader.integer('judgeTimeoutMs', { min: 1, max: 60_000 }, 2_000),
    clock: reader.fn('clock', Date.now),
    requireHttps: readRequireHttps(app, reader),
    onDecision: reader.fn<(decision: Decision) => void>('onDecision')
  })
  const audit = new Audit(app)
  if (!isImplied && audit.hasRoutes()) throw new OptionsError(OWNER, 'register', 'came after routes; register guard first, and await it')
  app.decorate(kRuntime, runtime)
  decorateRequests(app, runtime)
  app.decorate('protect', function protect (policy) { audit.protect(this, policy) })
  app.decorate('policies', () => audit.policies())
  app.decorate('printPolicies', () => audit.printPolicies())
  installStages(app)
  app.addHook('onReady', async function sallyportAudit () {
    const undeclared = audit.check()
    if (undeclared.length === 0) return
    const text = `${undeclared.length} route(s) declare no policy: ${undeclared.join(', ')}`
    if (mode === 'enforce') throw new OptionsError(OWNER, 'audit', `"enforce": ${text}; give each an onRequest policy, or open(reason)`)
    process.emitWarning(text, { type: 'SallyportWarning', code: 'SALLYPORT_UNDECLARED' })
  })
}

/** Registers `guard`: composition, stages, claims and the audit for a scope. Other plugins bring it in where it is missing. */
export const guard: FastifyPluginAsync<GuardOptions> = fp(guardPlugin, { fastify: '5.x', name: OWNER })

function readRequireHttps (app: FastifyInstance, reader: OptionReader): Runtime['requireHttps'] {
  const given = reader.raw('requireHttps')
  if (given === undefined || given === false) return undefined
  const source = given === true
    ? 'request'
    : new OptionReader(OWNER, given, ['source'], 'requireHttps.').oneOf('source', ['request', 'socket'], 'request')
  if (source === 'request') assertForwardingIsSafe(app, { owner: OWNER, option: 'requireHttps', otherwise: 'use requireHttps: { source: \'socket\' }' })
  return source
}

/** What a plugin's `define` gets beside its options. */
export interface GuardContext {
  readonly app: FastifyInstance
  /** The guard's name on the instance. */
  readonly name: string
  readonly realm: string
  readonly clock: () => number
  readonly onDecision: CommonOptions['onDecision']
  /** Reads the plugin's own options; unknown names have been refused. */
  readonly reader: OptionReader
}

export interface GuardPluginSpec<I> {
  /** The package: `@sallyport/bearer-jwt`. */
  readonly owner: string
  /** The guard's default name: `bearerJwt`. */
  readonly name: string
  /** The plugin's own option names; the common ones are added. */
  readonly optionNames: readonly string[]
  /** Checks the options (throws `OptionsError`) and builds the decision. */
  readonly define: (context: GuardContext) => DefinitionOf<I> | Promise<DefinitionOf<I>>
}

type DefinitionOf<I> = Omit<GuardDefinition<I>, 'owner' | 'name' | 'onDecision'> & {
  /** More than the plain guard, such as a report: hung on it before it is decorated. */
  readonly extras?: object
}

/**
 * Makes a Fastify plugin of a guard's definition: reads the common options, brings in `guard` where it is missing, and puts
 * the guard on the instance under its name, which must be free in the whole chain of scopes.
 */
export function guardPluginOf<O extends CommonOptions, I> (spec: GuardPluginSpec<I>): FastifyPluginAsync<O> {
  const { owner, optionNames, define } = spec
  const plugin: FastifyPluginAsync<O> = async function sallyportPlugin (app, options) {
    const reader = new OptionReader(owner, options, [...commonOptionNames, ...optionNames])
    const name = reader.text('as', spec.name)
    if (app.hasDecorator(name)) throw new OptionsError(owner, 'as', `"${name}" is taken in this scope; give this registration another name`)
    if (runtimeOf(app) === undefined) await app.register(guard, { [impliedBy]: true } as GuardOptions)
    const runtime = runtimeOf(app)!
    const onDecision = reader.fn<(decision: Decision) => void>('onDecision')
    const { extras, ...definition } = await define({
      app, name, reader, onDecision, realm: reader.realm(runtime.realm), clock: reader.fn('clock', runtime.clock)
    })
    app.decorate(name, Object.assign(defineGuard<I, object>({ ...definition, owner, name, onDecision }), extras))
  }
  return fp(plugin, { fastify: '5.x', name: owner })
}

/**
 * A guard by the name it was registered under (`as`), with its own type: `guardOf<BearerJwtGuard<Partner>>(app, 'partnerJwt')`.
 * Throws a `TypeError` that names it if there is none in this scope.
 */
export function guardOf<G extends Policy = Guard> (app: FastifyInstance, name: string): G {
  const found: unknown = app.hasDecorator(name) ? (app as unknown as Record<string, unknown>)[name] : undefined
  if (nodeOf(found)?.kind !== 'guard') throw new TypeError(`no guard is registered as "${name}" in this scope`)
  return found as G
}
