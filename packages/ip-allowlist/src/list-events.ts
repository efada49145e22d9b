/** What happens to lists in a store, for logs and alarms: on a diagnostics channel, and to whoever asked to be called. */

import { channel } from 'node:diagnostics_channel'
import type { AddressWarning } from './address-set.js'
import type { ListChange } from './list-store.js'

/** The `node:diagnostics_channel` on which every list event is published. */
export const listChannel = 'sallyport:list'

const events = channel(listChannel)

/** A list was changed through this process; `version` is the new one. */
export interface ListChangedEvent {
  readonly kind: 'changed'
  readonly list: string
  readonly version: string
  readonly change: ListChange
}

/** A guard of this process goes by this version from now on. */
export interface ListLoadedEvent {
  readonly kind: 'loaded'
  readonly list: string
  readonly version: string
  /** How many entries it has. */
  readonly size: number
  /** The first 100 networks that were written with host bits. */
  readonly warnings: readonly AddressWarning[]
}

/** A list can't be read, or holds what is no entry. Guards go on with the last good one; told once until it is good again. */
export interface ListFailedEvent {
  readonly kind: 'failed'
  /** `undefined`: the store itself can't be read. */
  readonly list: string | undefined
  /** As it was thrown, so look before you log it. */
  readonly cause: unknown
}

export type ListEvent = ListChangedEvent | ListLoadedEvent | ListFailedEvent

/** What it throws is dropped: an observer must not be able to stop a change. */
export type ListEventListener = (event: ListEvent) => void

export function publishListEvent (event: ListEvent, listener: ListEventListener | undefined): void {
  events.publish(Object.freeze(event))
  try {
    listener?.(event)
  } catch {
    // See ListEventListener.
  }
}
