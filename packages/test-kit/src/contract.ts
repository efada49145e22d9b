/** The contract that every plugin of the house keeps, executed: `contractSuite(t, spec)`. */

import type { CommonOptions, Guard, Outcome, Policy, RefusalEntry } from '@sallyport/guard'
import { guardOf } from '@sallyport/guard'
import type { FastifyInstance, FastifyPluginAsync, FastifyServerOptions, InjectOptions } from 'fastify'
import type { Test } from 'tap'
import { compositionTests } from './contract-composition.js'
import { refusalTests } from './contract-refusals.js'
import { registrationTests } from './contract-registration.js'
import { Ledger, observedApp, type ObservedApp } from './observed-app.js'

/** A request, or a function that makes a fresh one (a new nonce, a new `jti`) each time it is sent. */
export type RequestSource = InjectOptions | (() => InjectOptions | Promise<InjectOptions>)

/** A guard whose `require()` takes whatever its plugin knows. */
export type AnyGuard = Guard<unknown, Record<string, unknown>>

/** A request that is refused with one code of the table. */
export interface Sample<O> {
  readonly request: RequestSource
  /** Laid over `options()` for this sample. */
  readonly options?: Partial<O>
  /** The route's policy, where the plain guard isn't it: `(guard) => guard.require({ scopes: ['x'] })`. */
  readonly policy?: (guard: AnyGuard, app: FastifyInstance) => Policy
  /** The route, where it needs a parameter. Default: the suite's `route`. */
  readonly route?: string
  readonly status: number
  /** Whether `WWW-Authenticate` is there; a text must be in it. Default: true for 401, not looked at for others. */
  readonly challenge?: boolean | string
  /** Runs before the request is sent: to use up a nonce, to stop a clock. */
  readonly before?: (running: { readonly app: FastifyInstance, readonly guard: AnyGuard }) => unknown
}

export interface ContractSpec<O extends CommonOptions> {
  readonly plugin: FastifyPluginAsync<O>
  /** The guard's name: `bearerJwt`. */
  readonly name: string
  /** `import * as packageExports from '../src/index.js'` */
  readonly packageExports: Readonly<Record<string, unknown>>
  /** Valid options, made anew at each call, stores and keys included. The plain guard must be usable with them alone. */
  readonly options: () => O
  /** A request that passes. */
  readonly accepted: RequestSource
  /** One sample, or several, for each code of `refusals` that isn't in `unreachable`. */
  readonly samples: Readonly<Record<string, Sample<O> | readonly Sample<O>[]>>
  /** Codes that no request to a plain route can bring about, each with the reason. */
  readonly unreachable?: Readonly<Record<string, string>>
  /** The package's refusal table. */
  readonly refusals: Readonly<Record<string, RefusalEntry>>
  /** What must not come out anywhere. Tokens in the headers of the requests are added. */
  readonly secrets: readonly string[]
  /** Where the route stands. Default: `/contract`. */
  readonly route?: string
  /** Fastify's own options, such as `trustProxy`. */
  readonly server?: FastifyServerOptions
  /** Why handlers still see the credential, where they do. Without it the suite's handlers log all headers. */
  readonly visibleCredentials?: string
}

const statusOfOutcome: Readonly<Record<Outcome, number>> = { absent: 401, rejected: 401, forbidden: 403, unavailable: 503 }

/** A spec with what follows from it; each test asks it for a fresh app. */
export class Contract<O extends CommonOptions> {
  readonly spec: ContractSpec<O>
  readonly ledger = new Ledger()
  readonly route: string
  /** True for guards without a credential of their own, such as addresses. */
  readonly isAmbient: boolean

  constructor (spec: ContractSpec<O>) {
    this.spec = spec
    this.route = spec.route ?? '/contract'
    this.isAmbient = Object.values(spec.refusals).every(({ outcome }) => outcome !== 'absent')
  }

  /** An app with nothing registered. */
  bare (t: Test): ObservedApp {
    return observedApp(t, { ledger: this.ledger, server: this.spec.server, logsHeaders: this.spec.visibleCredentials === undefined })
  }

  /** An app with the plugin, and the route behind the policy. */
  async guarded (t: Test, { policy, options, route = this.route }: Partial<Pick<Sample<O>, 'policy' | 'options' | 'route'>> = {}): Promise<ObservedApp> {
    const observed = this.bare(t)
    await this.register(observed.app, options)
    const guard = this.guardIn(observed.app)
    this.declare(observed.app, observed.handler, policy === undefined ? guard : policy(guard, observed.app), route)
    return observed
  }

  async register (app: FastifyInstance, options?: Partial<O>): Promise<void> {
    await app.register(this.spec.plugin, { ...this.spec.options(), ...options })
  }

  guardIn (app: FastifyInstance, name = this.spec.name): AnyGuard {
    return guardOf<AnyGuard>(app, name)
  }

  /** The route for every method, behind one hook or several. */
  declare (app: FastifyInstance, handler: ObservedApp['handler'], onRequest: Policy | Policy[], url = this.route): void {
    app.route({ method: ['GET', 'POST', 'PUT', 'PATCH', 'DELETE'], url, onRequest, handler })
  }

  accepted (): Promise<InjectOptions> {
    return this.request(this.spec.accepted)
  }

  async request (source: RequestSource, route = this.route): Promise<InjectOptions> {
    const given = typeof source === 'function' ? await source() : source
    return this.ledger.remember({ method: 'GET', url: route, ...given })
  }

  samples (): readonly (Sample<O> & { readonly code: string })[] {
    return Object.entries(this.spec.samples).flatMap(([code, samples]) => [samples].flat().map((sample) => ({ ...sample, code })))
  }

  /** The status that the table gives a code. */
  statusOf (code: string): number | undefined {
    const entry = this.spec.refusals[code]
    return entry && (entry.statusCode ?? statusOfOutcome[entry.outcome])
  }

  /** A sample that the plain guard refuses with the plain options: of an absent credential, else of the first there is. */
  plainRefusal (): Sample<O> & { readonly code: string } {
    const plain = this.samples().filter(({ options, policy, before, route }) => [options, policy, before, route].every((part) => part === undefined))
    const found = plain.find(({ code }) => this.spec.refusals[code]?.outcome === 'absent') ?? plain[0]
    if (found === undefined) throw new Error('the contract needs a sample that the plain guard refuses with the plain options')
    return found
  }

  /** The same for a credential that was presented, or an address. */
  wrongCredential (): Sample<O> & { readonly code: string } {
    const isWrong = ({ code, options, policy, before, route }: Sample<O> & { readonly code: string }): boolean => {
      return this.spec.refusals[code]?.outcome !== 'absent' && [options, policy, before, route].every((part) => part === undefined)
    }
    const found = this.samples().find(isWrong)
    if (found === undefined) throw new Error('the contract needs a sample of a wrong credential for the plain guard with the plain options')
    return found
  }
}

/** Proves that a plugin keeps the contract of the house. Each clause is a subtest. Await it. */
export function contractSuite<O extends CommonOptions> (t: Test, spec: ContractSpec<O>): Promise<unknown> {
  return t.test(`${spec.name} keeps the contract of the house`, async (t) => {
    const contract = new Contract(spec)
    contract.ledger.watchDecisions(t)
    await registrationTests(t, contract)
    await compositionTests(t, contract)
    await refusalTests(t, contract)
  })
}
