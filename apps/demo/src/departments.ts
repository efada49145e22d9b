/** The departments API (Musskema): a company's own short-lived JWTs, or the headers of old, from where the company says it calls. */

import type { FastifyInstance } from 'fastify'
import { bearerJwt, type JwtKey } from '@sallyport/bearer-jwt'
import { allOf, anyOf, open, type ClaimStore } from '@sallyport/guard'
import { ipAllowlist, type AddressLists } from '@sallyport/ip-allowlist'
import { hashAccessToken, legacyHeaders, type AccessTokenDigest, type DeprecationOptions } from '@sallyport/legacy-headers'
import type { Companies } from './companies.js'
import { MIN_SECRET_BYTES, type Company } from './company-file.js'
import type { LegacyCalendar } from './config.js'

export interface DepartmentsOptions {
  readonly companies: Companies
  /** Remembers tokens that may be used once. */
  readonly claimStore: ClaimStore
  readonly legacy: LegacyCalendar
}

interface Department { readonly id: number, readonly name: string }

const MAX_DEPARTMENTS = 100

const newDepartment = {
  body: {
    type: 'object',
    required: ['name'],
    additionalProperties: false,
    properties: { name: { type: 'string', minLength: 1, maxLength: 100 } }
  }
} as const

/** Registers the three guards of this system and its routes; to be used in a scope of its own. */
export async function departments (scope: FastifyInstance, { companies, claimStore, legacy }: DepartmentsOptions): Promise<void> {
  const accessOf = createAccess(companies)
  await scope.register(bearerJwt, {
    source: { header: 'JWT' },
    algorithms: ['HS256'],
    keys: ({ tenant }) => accessOf(tenant)?.keys,
    // The register is in memory and follows its file: what it says counts from the next request on.
    keyCacheSeconds: 0,
    tenant: 'company_id',
    requiredClaims: ['exp', 'nbf'],
    maxLifetimeSeconds: 15,
    shortSecrets: { minimumBytes: MIN_SECRET_BYTES, reason: 'secrets issued before 2024 have 18 characters' },
    store: claimStore
  })
  await scope.register(legacyHeaders, {
    credentials: (tenant) => accessOf(tenant)?.tokens,
    deprecation: deprecationOf(companies, legacy)
  })
  await scope.register(ipAllowlist, {
    tenants: (tenant) => accessOf(tenant)?.lists,
    tenantWithoutList: 'allow',
    families: ['ipv4']
  })
  scope.reports.set('Legacy headers', scope.legacyHeaders.usage)

  const mayRead = allOf(anyOf(scope.bearerJwt, scope.legacyHeaders), scope.ipAllowlist)
  const mayWrite = allOf(anyOf(scope.bearerJwt.require({ singleUse: true }), scope.legacyHeaders), scope.ipAllowlist)
  const kept = createDepartments()

  scope.get('/departments', { onRequest: mayRead }, async (request) => {
    return { departments: kept.of(request.auth.principal.tenant!) }
  })

  scope.post<{ Body: { name: string } }>('/departments', { onRequest: mayWrite, schema: newDepartment }, async (request, reply) => {
    return reply.code(201).send(kept.add(request.auth.principal.tenant!, request.body.name))
  })

  scope.get('/moving-to-jwt', { onRequest: open('help for people') }, async (_request, reply) => {
    return reply.type('text/html; charset=utf-8').send(helpPage)
  })
}

/** A company as the three guards need it. */
interface Access {
  readonly keys: readonly JwtKey[]
  readonly tokens: readonly AccessTokenDigest[]
  readonly lists: AddressLists | undefined
}

/** Derived once for each company object, so that a request costs a look-up. */
function createAccess (companies: Companies): (tenant: string | undefined) => Access | undefined {
  const derived = new WeakMap<Company, Access>()
  return (tenant) => {
    const company = tenant === undefined ? undefined : companies.find(tenant)
    if (company === undefined) return undefined
    let access = derived.get(company)
    if (access === undefined) derived.set(company, access = deriveAccess(company))
    return access
  }
}

function deriveAccess ({ secrets, allow }: Company): Access {
  return {
    keys: secrets,
    tokens: secrets.map(({ key, ...secret }) => ({ ...secret, digest: hashAccessToken(key.export().toString()) })),
    lists: allow === undefined ? undefined : { allow }
  }
}

/** The calendar of all, and the later ends of single companies as they are at the start. */
function deprecationOf (companies: Companies, { brownouts, ...calendar }: LegacyCalendar): DeprecationOptions {
  const extensions = companies.list().flatMap(({ id, legacyUntil }) => {
    return legacyUntil === undefined || legacyUntil <= calendar.sunsetAt ? [] : [{ tenant: id, sunsetAt: legacyUntil }]
  })
  return {
    ...calendar,
    ...(brownouts.length > 0 && { brownouts }),
    ...(extensions.length > 0 && { extensions })
  }
}

const firstDepartments: Readonly<Record<string, readonly string[]>> = {
  100001: ['Reception', 'Surgery'],
  100002: ['Harbour', 'Customs'],
  100003: ['Bakehouse', 'Shop'],
  10238497: ['Administration']
}

/** Departments by company, in the memory of this process: enough to see who sees what. */
function createDepartments () {
  const byCompany = new Map(Object.entries(firstDepartments).map(([tenant, names]) => {
    return [tenant, names.map((name, i): Department => ({ id: i + 1, name }))]
  }))
  return {
    of: (tenant: string): readonly Department[] => byCompany.get(tenant) ?? [],
    add (tenant: string, name: string): Department {
      const own = byCompany.get(tenant) ?? []
      if (own.length >= MAX_DEPARTMENTS) throw Object.assign(new Error(`A company can have ${MAX_DEPARTMENTS} departments`), { statusCode: 409, code: 'ERR_DEPARTMENTS_FULL' })
      const department = { id: own.length + 1, name }
      byCompany.set(tenant, [...own, department])
      return department
    }
  }
}

const helpPage = `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>Moving from the legacy headers to JWT</title></head>
<body>
<h1>Moving from the legacy headers to JWT</h1>
<p>The headers <code>company_id</code> and <code>access_token</code> send your access token in clear with every request. They end at the date that the <code>Sunset</code> header of each answer names.</p>
<p>Send a <code>JWT</code> header instead, with a token made afresh for each request:</p>
<ul>
<li>signed with <code>HS256</code>; the secret is your access token</li>
<li>claims: <code>nbf</code> (now), <code>exp</code> (at most 15 seconds later), <code>company_id</code></li>
<li>a token is good for one <code>POST</code>, and for any number of <code>GET</code>s until it expires</li>
</ul>
<p>Then ask for a new access token: the old one has travelled in clear for as long as you used the headers.</p>
</body>
</html>
`
