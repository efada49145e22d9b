/** What is still held once garbage is gone: for tests of what must not be kept. */

import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

let collect: (() => void) | undefined

/** Collects all garbage. What is outside V8's heap (the bytes of buffers) may be given back a little later. */
export function collectGarbage (): void {
  if (collect === undefined) {
    setFlagsFromString('--expose-gc')
    collect = runInNewContext('gc') as () => void
  }
  collect()
}

/** Bytes that are held: in V8's heap, or in buffers. The least of several readings, since what is garbage only makes it more. */
export async function heldBytes (kind: 'heapUsed' | 'arrayBuffers'): Promise<number> {
  let least = Infinity
  for (let tries = 0; tries < 10; tries++) {
    collectGarbage()
    least = Math.min(least, process.memoryUsage()[kind])
    await sleep(5)
  }
  return least
}
