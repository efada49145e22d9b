export { ipAllowlist, ipAllowlist as default, type IpAllowlistGuard, type IpAllowlistIdentity } from './plugin.js'
export { type IpAllowlistOptions, type TenantListResolver } from './options.js'
export { type AddressLists, type Family } from './lists.js'
export { buildAddressSet, createAddressSet, type AddressSet, type AddressSetOptions, type AddressWarning } from './address-set.js'
export { formatAddress, parseAddress, parseEntry, type AddressRange, type EntryOptions, type ParsedAddress } from './address.js'
export { type DetailedEntry, type ListEntry } from './list-entry.js'
export {
  memoryListStore, type ListActor, type ListChange, type ListReplacement, type ListStore, type MemoryListStoreOptions, type ReplaceResult, type StoredList
} from './list-store.js'
export { ipAllowlistRefusals, type IpAllowlistRefusalCode } from './errors.js'
