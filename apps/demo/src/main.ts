/** Starts the demo: reads the environment, opens what it needs, serves until it is told to stop. */

import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { redisStore } from '@sallyport/guard'
import type { FastifyInstance } from 'fastify'
import { Redis } from 'ioredis'
import { openAccounts } from './accounts.js'
import { loadCertificate } from './certificate.js'
import { openCompanies } from './companies.js'
import { readConfig, type Config } from './config.js'
import { openDatabase, type Database } from './database.js'
import { openKeyRings } from './key-rings.js'
import { findMerchantFiles, openMerchants, type Merchants } from './merchants.js'
import { migrate } from './migrations.js'
import { buildServer } from './server.js'
import { sqlStore } from './sql-store.js'
import { findLogin, seedAdministrator } from './users.js'
import { welcomeText, type ExampleMerchant } from './welcome.js'

/** How long requests under way may take to end after a signal. */
const CLOSE_WITHIN_MS = 5_000

try {
  await start(readConfig(process.env))
} catch (error) {
  console.error(`Sallyport demo: ${messageOf(error)}`)
  process.exitCode = 1
}

/** Opens what the server stands on, and closes it in turn when the server has ended, however that came. */
async function start (config: Config): Promise<void> {
  const redis = config.redisUrl === undefined ? undefined : createRedis(config.redisUrl)
  try {
    const database = await openDatabase({
      folder: config.dataFolder,
      url: config.databaseUrl,
      onConnectionLost: ({ message }) => console.error(`A connection to the database broke: ${message}`)
    })
    try {
      await migrate(database)
      await serve(config, database, redis)
    } finally {
      await database.close()
    }
  } finally {
    redis?.disconnect()
  }
}

async function serve (config: Config, database: Database, redis: Redis | undefined): Promise<void> {
  const { dataFolder: folder, host } = config
  const onUnreadable = (file: string) => (error: unknown): void => { console.error(`${file} can't be read, so what it said before stays in force: ${messageOf(error)}`) }
  const companies = await openCompanies({ folder, onUnreadable: onUnreadable('companies.json') })
  const accounts = await openAccounts({ folder, onUnreadable: onUnreadable('accounts.json') })
  const merchants = await openMerchants({ folder, onUnreadable: onUnreadable('merchants.json') })
  const keyRings = await openKeyRings({ folder, onUnreadable: onUnreadable('keys.json') })
  const certificate = config.tls ? await loadCertificate({ folder, host, now: Date.now() }) : undefined
  const store = redis === undefined ? sqlStore(database) : redisStore(redis, { prefix: 'sallyport-demo:' })
  await seedAdministrator(database, folder)
  const app = await buildServer(config, { companies, accounts, merchants, keyRings, database, store, certificate })
  try {
    // It is said when Redis is out of reach, and tried again: no reason not to start.
    await redis?.connect().catch(ignore)
    await app.listen({ port: config.port, host })
  } catch (error) {
    await app.close()
    throw error
  }
  console.log(welcomeText({
    origin: originOf(app, config),
    policies: app.printPolicies(),
    dataFolder: folder,
    certificate,
    adminLogin: findLogin(folder),
    merchants: exampleMerchants(merchants, folder),
    pid: process.pid
  }))
  process.on('SIGUSR2', () => printReports(app))
  // npm hands a Ctrl+C on to a process that has had it already, so a second signal means nothing; the time limit holds.
  await Promise.race([once(process, 'SIGINT'), once(process, 'SIGTERM')])
  process.on('SIGINT', ignore).on('SIGTERM', ignore)
  await closeInTime(app)
}

/** Never queues and never sends twice: while Redis is away, one-shot tokens are answered 503, and everything else is served. */
function createRedis (url: string): Redis {
  const client = new Redis(url, { enableOfflineQueue: false, maxRetriesPerRequest: 0, socketTimeout: 1_000, lazyConnect: true })
  let isDown = false
  return client.on('ready', () => { isDown = false }).on('error', ({ message }) => {
    if (!isDown) console.error(`Redis is out of reach: ${message}`)
    isDown = true
  })
}

function originOf (app: FastifyInstance, { tls, host }: Config): string {
  const { port } = app.server.address() as AddressInfo
  const name = ['127.0.0.1', '::1', '0.0.0.0', '::', 'localhost'].includes(host) ? 'localhost' : host.includes(':') ? `[${host}]` : host
  return `${tls ? 'https' : 'http'}://${name}:${port}`
}

/** Those whose login and secret still lie in the data folder. */
function exampleMerchants (merchants: Merchants, folder: string): readonly ExampleMerchant[] {
  return merchants.list().flatMap(({ id, credentials }) => {
    const [files, keyId] = [findMerchantFiles(folder, id), credentials[0]?.keyId]
    return files === undefined || keyId === undefined ? [] : [{ id, keyId, ...files }]
  })
}

function printReports ({ reports }: FastifyInstance): void {
  for (const [name, report] of reports) console.log(`${name}: ${JSON.stringify(report(), undefined, 2)}`)
}

async function closeInTime (app: FastifyInstance): Promise<void> {
  const limit = setTimeout(() => {
    console.error('Requests are still under way after 5 seconds; their connections are closed now.')
    app.server.closeAllConnections()
  }, CLOSE_WITHIN_MS)
  await app.close()
  clearTimeout(limit)
  printReports(app)
}

function messageOf (error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

function ignore (): void { /* nothing is to be done */ }
