/** A register: a file that the operator's commands change and the running server follows. */

import { join } from 'node:path'
import type { OptionReader } from '@sallyport/guard'
import { ensureFolder, readIfThere, replaceFile, versionOf, whileLocked } from './private-files.js'

export interface RegisterFile<T> {
  /** What the file says now. The same object until the file changes. */
  readonly current: () => T
  /** Replaces what the file says, one change at a time, whichever process makes it. Resolves with the result of `edit`. */
  readonly change: <R>(edit: (content: T) => { readonly content: T, readonly result: R }) => Promise<R>
}

export interface RegisterFileOptions<T> {
  readonly folder: string
  /** Of the file, without its ending: `accounts` lies in `accounts.json`. */
  readonly name: string
  /** Throws for a text that `format` could not have written. */
  readonly parse: (text: string) => T
  readonly format: (content: T) => string
  /** What stands in a new register. */
  readonly first: () => T
  /** Told once for each text that can't be read; the last good one stays in force. */
  readonly onUnreadable?: ((error: unknown) => void) | undefined
}

/** Opens the register of a data folder; in an empty folder it makes one. */
export async function openRegisterFile<T> ({ folder, name, parse, format, first, onUnreadable }: RegisterFileOptions<T>): Promise<RegisterFile<T>> {
  ensureFolder(folder)
  const path = join(folder, `${name}.json`)
  if (versionOf(path) === undefined) {
    await whileLocked(path, () => {
      if (versionOf(path) === undefined) replaceFile(path, format(first()))
    })
  }
  let seen = versionOf(path)
  let content = parse(readText(path))
  return Object.freeze({
    /** Looks at the file's date each time (some microseconds), so that a change counts from the next request on. */
    current () {
      try {
        const version = versionOf(path)
        if (version === seen) return content
        seen = version
        content = parse(readText(path))
      } catch (error) {
        onUnreadable?.(error)
      }
      return content
    },
    async change<R> (edit: (content: T) => { readonly content: T, readonly result: R }) {
      return whileLocked(path, () => {
        const { content: next, result } = edit(parse(readText(path)))
        const text = format(next)
        // What could not be read again must not be written.
        parse(text)
        replaceFile(path, text)
        return result
      })
    }
  })
}

function readText (path: string): string {
  const text = readIfThere(path)
  if (text === undefined) throw new Error(`${path} is missing`)
  return text
}

/** A date of a register, as JSON has it. */
export function readMoment (reader: OptionReader, name: string): Date | undefined {
  const text = reader.text(name)
  if (text === undefined) return undefined
  const date = new Date(text)
  if (Number.isNaN(date.getTime())) throw reader.error(name, 'must be a moment in ISO 8601')
  return date
}
