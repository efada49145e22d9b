/** Child processes that answer questions over their IPC channel, one at a time. */

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

/** Question to answer, by kind. */
export type Protocol = Readonly<Record<string, (given: never) => unknown>>

export interface Child<P extends Protocol> {
  readonly pid: number
  ask: <K extends keyof P & string>(kind: K, ...given: Parameters<P[K]>) => Promise<Awaited<ReturnType<P[K]>>>
  stop: () => void
}

interface Reply { readonly answer?: unknown, readonly failure?: string }

/** Starts a module of this folder. A question to a child that has ended, or ends before it answers, rejects. */
export function startChild<P extends Protocol> (module: string, args: readonly string[] = []): Child<P> {
  const child = fork(join(import.meta.dirname, module), args, { execArgv: ['--expose-gc'] })
  const ended = once(child, 'exit').then(([code]): never => { throw new Error(`${module} ${args.join(' ')} ended with ${String(code)}`) })
  ended.catch(() => undefined)
  return {
    pid: child.pid!,
    async ask (kind, ...given) {
      if (child.connected) child.send({ kind, given: given[0] })
      const [{ answer, failure }] = await Promise.race([once(child, 'message'), ended]) as [Reply]
      if (failure !== undefined) throw new Error(`${module} ${args.join(' ')}: ${failure}`)
      return answer as never
    },
    stop () { child.kill() }
  }
}

/** The child's side. Ends with its parent. */
export function answerQuestions (protocol: Protocol): void {
  process.on('disconnect', () => process.exit())
  process.on('message', ({ kind, given }: { kind: string, given: never }) => {
    Promise.resolve(given).then(protocol[kind]).then(
      (answer) => process.send!({ answer } satisfies Reply),
      (error: Error) => process.send!({ failure: error.stack ?? error.message } satisfies Reply)
    )
  })
}
