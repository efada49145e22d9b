/** Who still uses the headers: counts by tenant and route, in the memory of this process. */

/** How often, and when. */
export interface RouteUsage {
  readonly method: string
  /** The route's pattern (`/orders/:id`), never a URL. `(no route)` is a 404; `(other routes)` is what came after the hundredth. */
  readonly route: string
  /** Requests whose whole policy passed. */
  readonly count: number
  /** Requests with a right credential that a brown-out or the sunset refused. */
  readonly refused: number
}

export interface TenantUsage extends Omit<RouteUsage, 'method' | 'route'> {
  readonly tenant: string
  /** ISO 8601, UTC. */
  readonly firstSeen: string
  /** ISO 8601, UTC. */
  readonly lastSeen: string
  /** At most 100, and one line for all others. */
  readonly routes: readonly RouteUsage[]
}

/** Frozen, a snapshot. */
export interface LegacyHeadersUsage {
  /** When this process began to count; ISO 8601, UTC. */
  readonly since: string
  /** Only tenants whose credential was proved right, those seen last first. */
  readonly tenants: readonly TenantUsage[]
}

interface Use {
  readonly tenant: string
  readonly method: string
  /** `undefined`: the 404 handler. */
  readonly route: string | undefined
  readonly verdict: 'count' | 'refused'
  /** Milliseconds since the epoch. */
  readonly now: number
}

export interface UsageLog {
  readonly add: (use: Use) => void
  readonly report: () => LegacyHeadersUsage
}

interface Counts { count: number, refused: number }
interface RouteEntry extends Counts { readonly method: string, readonly route: string }
interface TenantEntry extends Counts { readonly firstMs: number, lastMs: number, readonly routes: Map<string, RouteEntry> }

const MAX_ROUTES = 100

/** Memory is bounded by the number of customers: a tenant has an entry only once its credential was proved. */
export function createUsageLog (startedAtMs: number): UsageLog {
  const tenants = new Map<string, TenantEntry>()

  const entryOf = ({ tenant, now }: Use): TenantEntry => {
    let entry = tenants.get(tenant)
    if (entry === undefined) tenants.set(tenant, entry = { count: 0, refused: 0, firstMs: now, lastMs: now, routes: new Map() })
    return entry
  }

  return {
    add (use) {
      const entry = entryOf(use)
      entry.lastMs = use.now
      entry[use.verdict] += 1
      routeOf(entry, use)[use.verdict] += 1
    },
    report () {
      const byLastSeen = [...tenants].sort(([, a], [, b]) => b.lastMs - a.lastMs)
      return Object.freeze({ since: isoOf(startedAtMs), tenants: Object.freeze(byLastSeen.map(tenantUsage)) })
    }
  }
}

function routeOf ({ routes }: TenantEntry, { method, route = '(no route)' }: Use): RouteEntry {
  const known = routes.get(`${method} ${route}`)
  if (known !== undefined) return known
  const entry = routes.size < MAX_ROUTES
    ? { method, route, count: 0, refused: 0 }
    : routes.get(others) ?? { method: '*', route: '(other routes)', count: 0, refused: 0 }
  routes.set(`${entry.method} ${entry.route}`, entry)
  return entry
}

const others = '* (other routes)'

function tenantUsage ([tenant, { count, refused, firstMs, lastMs, routes }]: [string, TenantEntry]): TenantUsage {
  return Object.freeze({
    tenant, count, refused, firstSeen: isoOf(firstMs), lastSeen: isoOf(lastMs),
    routes: Object.freeze([...routes.values()].map((route) => Object.freeze({ ...route })))
  })
}

function isoOf (ms: number): string {
  return new Date(ms).toISOString()
}
