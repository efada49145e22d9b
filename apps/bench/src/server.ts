/** One variant as a process of its own: listens, says where, and answers questions about itself over its IPC channel. */

import Fastify from 'fastify'
import { variants } from './variants.js'

export interface Ready { readonly port: number, readonly headers: Readonly<Record<string, string>>, readonly bytesPerRequest: number }
export interface Usage { readonly cpuMicros: number }

const ALLOCATION_REQUESTS = 2_000

const name = process.argv[2] ?? ''
const variant = variants[name]
if (variant === undefined || process.send === undefined) throw new Error(`start with a variant's name and an IPC channel: ${Object.keys(variants).join('; ')}`)

const app = Fastify()
const headers = await variant(app)
await app.ready()
const bytesPerRequest = await allocation()
await app.listen({ port: 0, host: '127.0.0.1' })
const { port } = app.server.address() as { port: number }
process.on('message', () => {
  const { user, system } = process.cpuUsage()
  process.send!({ cpuMicros: user + system } satisfies Usage)
})
process.send({ port, headers, bytesPerRequest } satisfies Ready)

/** Heap that a request leaves behind. The young generation is made so large (see bench.ts) that nothing is collected meanwhile. */
async function allocation (): Promise<number> {
  const send = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      const { statusCode } = await app.inject({ url: '/', headers })
      if (statusCode !== 200) throw new Error(`${name} answers ${statusCode}`)
    }
  }
  await send(ALLOCATION_REQUESTS)
  globalThis.gc!()
  const before = process.memoryUsage().heapUsed
  await send(ALLOCATION_REQUESTS)
  return (process.memoryUsage().heapUsed - before) / ALLOCATION_REQUESTS
}
