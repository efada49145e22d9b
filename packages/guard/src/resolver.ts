/** Asks a user's resolver for keys, credentials or lists, and tells its failure from a wrong request. */

import type { AuthError } from './errors.js'

/**
 * Gives what `use` makes of the resolver's answer, at once where the resolver answers at once.
 * Whatever the resolver throws or rejects with becomes `unavailable`: the failure is told by where it arose, never by its
 * type, which a request might be able to choose. What `use` throws is thrown as it is.
 */
export function askResolver<A, R> (ask: () => A | PromiseLike<A>, use: (answer: A) => R, unavailable: (cause: unknown) => AuthError): R | Promise<R> {
  let answer: A | PromiseLike<A>
  try {
    answer = ask()
  } catch (cause) {
    throw unavailable(cause)
  }
  if (!isThenable(answer)) return use(answer)
  return Promise.resolve(answer).then(use, (cause: unknown) => { throw unavailable(cause) })
}

export function isThenable<T> (value: T | PromiseLike<T>): value is PromiseLike<T> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
}

/** Rejects with what `tooLate` makes if the promise has not settled in time; what it does later changes nothing. */
export async function inTime<T> (promise: PromiseLike<T>, timeoutMs: number, tooLate = () => new Error(`no answer within ${timeoutMs} ms`)): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => { reject(tooLate()) }, timeoutMs)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** What was not meant to be a promise must not end the process when it rejects. */
export function ignoreRejection (value: unknown): void {
  if (isThenable(value)) Promise.resolve(value).catch(() => undefined)
}
