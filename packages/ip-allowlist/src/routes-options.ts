/** The options of the list-management API: what they mean, their checks and their defaults. */

import { allOf, OptionReader, type Policy } from '@sallyport/guard'
import { owner } from './address.js'
import type { ListEditorOptions } from './list-editor.js'
import type { ListEventListener } from './list-events.js'
import type { ListStore } from './list-store.js'
import { readRules, readStore, readStoreTimeout, sources, type IpAllowlistOptions } from './options.js'

export interface AllowlistRoutesOptions extends Pick<IpAllowlistOptions, 'source' | 'families' | 'allowAny' | 'allowRanges' | 'storeTimeoutMs' | 'clock'> {
  /** Who may read and change the lists; before every route of the API. Required; `open()` is refused. */
  readonly policy: Policy
  /** The store that the guards go by: the same object, so that a change counts in this process at once. Required. */
  readonly store: ListStore
  /** The lists that are managed here; others are 404. Default: every list of the store. */
  readonly lists?: readonly string[]
  /** Lists that guards use as deny lists, so that a change shuts out its caller by adding and not by removing. Default: none. */
  readonly denyLists?: readonly string[]
  /** How many entries a list may hold. A whole number, 1 to 100,000. Default: 10,000. */
  readonly maxEntries?: number
  /** Larger bodies are 413. Bytes. Default: 1,048,576. */
  readonly bodyLimit?: number
  /** Called with every change that was made. What it throws is dropped. */
  readonly onListEvent?: ListEventListener
}

export interface ResolvedRoutesOptions {
  readonly policy: Policy
  readonly lists: readonly string[] | undefined
  readonly source: 'request' | 'socket'
  readonly bodyLimit: number
  readonly editor: ListEditorOptions
}

export const optionNames = [
  'policy', 'store', 'lists', 'denyLists', 'maxEntries', 'bodyLimit', 'source', 'families', 'allowAny', 'allowRanges', 'storeTimeoutMs', 'clock', 'onListEvent'
] as const
/** What Fastify's `register` takes and hands on. */
const fastifyNames = ['prefix', 'logLevel', 'logSerializers']

/** Checks everything once, at registration. Throws `OptionsError`. */
export function resolveRoutesOptions (given: AllowlistRoutesOptions): ResolvedRoutesOptions {
  const reader = new OptionReader(owner, given, [...optionNames, ...fastifyNames])
  const store = readStore(reader)
  if (store === undefined) throw reader.error('store', 'is required')
  return Object.freeze({
    policy: readPolicy(reader),
    lists: reader.texts('lists'),
    source: reader.oneOf('source', sources, 'request'),
    bodyLimit: reader.integer('bodyLimit', { min: 1 }, 1_048_576),
    editor: Object.freeze({
      store,
      rules: readRules(reader, reader.fn('clock', Date.now)),
      denyLists: reader.texts('denyLists') ?? [],
      maxEntries: reader.integer('maxEntries', { min: 1, max: 100_000 }, 10_000),
      storeTimeoutMs: readStoreTimeout(reader),
      onListEvent: reader.fn<ListEventListener>('onListEvent')
    })
  })
}

function readPolicy (reader: OptionReader): Policy {
  const given = reader.raw('policy')
  try {
    allOf(given as Policy)
    return given as Policy
  } catch {
    throw reader.error('policy', 'is required, and must be a guard or a policy other than open()')
  }
}
