/** Knows every route and its policy: fails the boot for a route nobody guards, and prints the map. */

import { channel } from 'node:diagnostics_channel'
import type { FastifyInstance, FastifyRequest, RouteOptions } from 'fastify'
import { checkSequence } from './compose.js'
import { OptionsError, refusal } from './errors.js'
import type { Policy } from './guard.js'
import { describePolicy, formatPolicy, leavesOf, nodeOf, type PolicyDescription, type PolicyNode } from './policy.js'

const OWNER = '@sallyport/guard'

/** One route as `app.policies()` gives it. */
export interface RoutePolicy {
  readonly method: string
  readonly url: string
  /** `undefined`: the route declares none. */
  readonly policy: PolicyDescription | undefined
}

interface SeenRoute {
  readonly instance: FastifyInstance
  readonly methods: readonly string[]
  readonly url: string
  /** As Fastify will read them: another plugin's `onRoute` hook may still add a policy or drop one, so they are asked late. */
  readonly options: RouteOptions
}

/**
 * Routes of every Fastify instance of this process, from its creation on. Fastify announces its instances, so routes that
 * are declared before `guard` is loaded (a plugin nobody awaited) are known all the same.
 */
const seenRoutes = new WeakMap<FastifyInstance, SeenRoute[]>()
const audited = new WeakSet<readonly SeenRoute[]>()

channel('fastify.initialization').subscribe((message) => {
  const { fastify } = message as { fastify: FastifyInstance }
  const routes = watchRoutes(fastify)
  fastify.addHook('onReady', async function sallyportMissing () {
    if (!audited.has(routes)) warnOfLost(routes.filter(lostItsPolicy))
  })
})

/** No plugin of the house is in this app, so it may be none of our business: it is told and not stopped. */
function warnOfLost (lost: readonly SeenRoute[]): void {
  if (lost.length === 0) return
  process.emitWarning(`"onRequest" is undefined at ${lost.map(nameOf).join(', ')}, so anybody may call: if a guard was meant, its plugin is registered in another app`, { type: 'SallyportWarning', code: 'SALLYPORT_UNGUARDED' })
}

function watchRoutes (app: FastifyInstance): SeenRoute[] {
  const routes: SeenRoute[] = []
  seenRoutes.set(app, routes)
  app.addHook('onRoute', function sallyportSees (options) {
    const route = { instance: this, methods: [options.method].flat(), url: options.url, options }
    // A guard of another version is refused where it is named.
    ownPolicies(route)
    routes.push(route)
  })
  return routes
}

function ownPolicies ({ options: { onRequest, preValidation, preHandler } }: SeenRoute): readonly PolicyNode[] {
  return [onRequest, preValidation, preHandler].flatMap(policiesIn)
}

function policiesIn (hooks: unknown): readonly PolicyNode[] {
  return [hooks].flat().map(nodeOf).filter((node) => node !== undefined)
}

/** `onRequest: app.someGuard` where `app.someGuard` was not there (yet). */
function lostItsPolicy ({ options }: SeenRoute): boolean {
  return 'onRequest' in options && options.onRequest === undefined
}

/** The audit of one scope: the routes in it, its `protect` calls, and what must hold before the server starts. */
export class Audit {
  readonly #scope: FastifyInstance
  readonly #routes: readonly SeenRoute[]
  readonly #protections = new Map<FastifyInstance, PolicyNode[]>()

  constructor (scope: FastifyInstance) {
    this.#scope = scope
    const known = knownRoutes(scope)
    this.#routes = known ?? watchRoutes(scope)
    audited.add(this.#routes)
    if (known === undefined) this.#refuseUnseen()
  }

  /** `scope.protect(policy)`: one policy before every route of the scope. */
  protect (scope: FastifyInstance, policy: Policy): void {
    const node = nodeOf(policy)
    if (node === undefined) throw new OptionsError(OWNER, 'policy', 'of protect() must be a guard or a policy')
    if (node.kind === 'open') throw new OptionsError(OWNER, 'policy', 'of protect() can\'t be open(); declare single routes open')
    const late = this.#routes.find(({ instance }) => instance !== scope && isWithin(scope, instance))
    if (late !== undefined) throw new OptionsError(OWNER, 'policy', `of protect() comes too late for ${nameOf(late)}, which is in a scope that has already been loaded; call protect() first`)
    scope.addHook('onRequest', policy)
    this.#protections.set(scope, [...this.#protections.get(scope) ?? [], node])
  }

  /** True if the scope had routes before `guard` came. */
  hasRoutes (): boolean {
    return this.#inScope().length > 0
  }

  /** Throws for what can't be meant, whatever the mode; gives the routes that declare no policy. */
  check (): readonly string[] {
    const lost = this.#routes.filter(lostItsPolicy)
    if (lost.length > 0) {
      throw new OptionsError(OWNER, 'onRequest', `is undefined at ${lost.map(nameOf).join(', ')}: the plugin of that guard is not registered there, or was not awaited (await app.register(...))`)
    }
    const undeclared: string[] = []
    for (const route of this.#inScope()) {
      const [protections, own] = [this.#protectionsOf(route), ownPolicies(route)]
      if (protections.length > 0 && own.some(({ kind }) => kind === 'open')) {
        throw new OptionsError(OWNER, 'onRequest', `of ${nameOf(route)} is open() inside a protected scope`)
      }
      const nodes = [...protections, ...own]
      if (nodes.length === 0) { if (!route.methods.every((method) => method === 'OPTIONS')) undeclared.push(nameOf(route)) } else this.#checkRoute(route, nodes)
      checkStages(route, protections)
    }
    return [...new Set(undeclared)]
  }

  policies (): readonly RoutePolicy[] {
    return this.#inScope().flatMap((route) => {
      const parts = [...this.#protectionsOf(route), ...ownPolicies(route)].map(describePolicy)
      const policy = parts.length > 1 ? { all: parts } : parts[0]
      return route.methods.map((method) => ({ method, url: route.url, policy }))
    })
  }

  printPolicies (): string {
    const lines = this.policies().filter(({ method }) => method !== 'HEAD')
    const width = Math.max(0, ...lines.map(({ method, url }) => method.length + url.length + 1))
    return lines.map(({ method, url, policy }) => {
      return `${`${method} ${url}`.padEnd(width)}  ${policy === undefined ? 'NO POLICY' : formatPolicy(policy)}\n`
    }).join('')
  }

  #checkRoute (route: SeenRoute, nodes: readonly PolicyNode[]): void {
    try {
      checkSequence(nodes)
    } catch (error) {
      throw new OptionsError(OWNER, 'onRequest', `of ${nameOf(route)} can't hold: ${(error as Error).message}`)
    }
    for (const { definition, requirements } of nodes.flatMap(leavesOf)) {
      for (const { tenantParam } of requirements) {
        if (tenantParam === undefined || parametersOf(route.url).includes(tenantParam)) continue
        throw new OptionsError(definition.owner, 'tenantParam', `"${tenantParam}" is no parameter of ${nameOf(route)}`)
      }
    }
  }

  #inScope (): readonly SeenRoute[] {
    return this.#routes.filter(({ instance }) => instance === this.#scope || isWithin(this.#scope, instance))
  }

  #protectionsOf ({ instance }: SeenRoute): readonly PolicyNode[] {
    return [...this.#protections].flatMap(([scope, nodes]) => scope === instance || isWithin(scope, instance) ? nodes : [])
  }

  /** Where Fastify was created before this package was loaded: what was declared before this moment has an unknown policy. */
  #refuseUnseen (): void {
    this.#scope.addHook('onRoute', (options) => {
      options.config ??= {} as NonNullable<RouteOptions['config']>
      Object.assign(options.config, { [kSeen]: true })
    })
    this.#scope.addHook('onRequest', function sallyportUnseen (request: FastifyRequest, _reply, done) {
      const { config } = request.routeOptions
      done(request.is404 || kSeen in config ? undefined : refusal('ERR_GUARD_ROUTE_UNSEEN'))
    })
  }
}

const kSeen = Symbol('sallyport.seen')

function knownRoutes (scope: FastifyInstance): SeenRoute[] | undefined {
  for (let object: object | null = scope; object !== null; object = Object.getPrototypeOf(object) as object | null) {
    const routes = seenRoutes.get(object as FastifyInstance)
    if (routes !== undefined) return routes
  }
  return undefined
}

/** Fastify's child instances inherit from their parents. */
function isWithin (scope: FastifyInstance, instance: FastifyInstance): boolean {
  return Object.prototype.isPrototypeOf.call(scope, instance)
}

/** A body has been read by the time of a later hook: a guard that judges it there for the first time could only ever refuse. */
function checkStages (route: SeenRoute, protections: readonly PolicyNode[]): void {
  const { onRequest, preValidation, preHandler } = route.options
  const early = [...protections, ...policiesIn(onRequest)].flatMap(leavesOf).map(({ definition }) => definition)
  for (const [name, hooks] of Object.entries({ preValidation, preHandler })) {
    const late = policiesIn(hooks).flatMap(leavesOf).find(({ definition }) => definition.judgesBody === true && !early.includes(definition))
    if (late !== undefined) throw new OptionsError(OWNER, name, `of ${nameOf(route)} is too late for "${late.definition.name}", which judges the body; use it as onRequest`)
  }
}

/** Names of the parameters in a route's pattern. */
function parametersOf (url: string): readonly string[] {
  return [...url.matchAll(/:([\w$]+)/g)].map(([, name]) => name!)
}

function nameOf ({ methods, url }: SeenRoute): string {
  return `${methods.join('|')} ${url}`
}
