/** The files of the data folder: replaced whole or not at all, and readable by their owner only. */

import { randomBytes } from 'node:crypto'
import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const LOCK_TRIES = 60
const LOCK_PAUSE_MS = 50

export function ensureFolder (path: string): void {
  mkdirSync(path, { recursive: true, mode: 0o700 })
}

/** The text of a file, or `undefined` where there is none; throws for one that can't be read. */
export function readIfThere (path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

/** Changes whenever the file is replaced or written to; `undefined` where there is none. */
export function versionOf (path: string): string | undefined {
  const found = statSync(path, { bigint: true, throwIfNoEntry: false })
  return found === undefined ? undefined : `${found.ino} ${found.mtimeNs} ${found.size}`
}

/** A reader sees the old text or the new one, never half of either, whenever this process ends. */
export function replaceFile (path: string, text: string, mode = 0o600): void {
  const draft = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}`)
  try {
    const file = openSync(draft, 'wx', mode)
    try {
      writeFileSync(file, text)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    renameSync(draft, path)
  } catch (error) {
    rmSync(draft, { force: true })
    throw error
  }
}

/** Runs one change of a file at a time, whichever process makes it. */
export async function whileLocked<T> (path: string, change: () => T): Promise<T> {
  const lock = `${path}.lock`
  await takeLock(lock)
  try {
    return change()
  } finally {
    rmSync(lock, { force: true })
  }
}

async function takeLock (lock: string): Promise<void> {
  for (let tries = 0; tries < LOCK_TRIES; tries++) {
    try {
      closeSync(openSync(lock, 'wx', 0o600))
      return
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      await sleep(LOCK_PAUSE_MS)
    }
  }
  throw new Error(`another command holds ${lock}; if none is running, remove that file`)
}
