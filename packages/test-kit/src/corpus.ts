/** Reads a conformance or attack corpus: files outside of this repository that tests run if they are there. */

import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'

/** One file of a corpus. `header.format` explains every field of its vectors. */
export interface Corpus<V> {
  readonly header: Readonly<Record<string, unknown>>
  readonly vectors: readonly V[]
}

// packages/test-kit/dist or packages/test-kit/src
const repository = resolve(import.meta.dirname, '../../..')

/** Where corpora are: `CORPORA_DIR` (from the repository's root), by default `../shared/corpora`. */
export function corpusPath (file: string): string {
  return join(resolve(repository, process.env['CORPORA_DIR'] ?? '../shared/corpora'), file)
}

/**
 * The corpus in `file` (`jws.json`), or `undefined` where there is none: `missing` is then told its path, so that a test
 * can say what it skips. Throws for a file that is there and is no corpus.
 */
export function readCorpus<V = Readonly<Record<string, unknown>>> (file: string, missing: (reason: string) => void = warn): Corpus<V> | undefined {
  const path = corpusPath(file)
  if (!existsSync(path)) {
    missing(`corpus not found: ${path} (set CORPORA_DIR)`)
    return undefined
  }
  const corpus = JSON.parse(readFileSync(path, 'utf8')) as Partial<Corpus<V>>
  if (typeof corpus.header !== 'object' || !Array.isArray(corpus.vectors)) throw new Error(`${path} is no corpus: it needs a header and vectors`)
  return corpus as Corpus<V>
}

function warn (reason: string): void {
  process.emitWarning(reason, { type: 'CorpusWarning' })
}
