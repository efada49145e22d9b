export { ipAllowlist, ipAllowlist as default, type IpAllowlistGuard, type IpAllowlistIdentity } from './plugin.js'
export { type IpAllowlistOptions, type IpAllowlistRequirements, type TenantListResolver } from './options.js'
export { type AddressList, type AddressLists, type NamedList } from './lists.js'
export { allowlistRoutes } from './routes.js'
export { type AllowlistRoutesOptions } from './routes-options.js'
export { refreshLists } from './live-lists.js'
export {
  memoryListStore, type ListActor, type ListChange, type ListReplacement, type ListStore, type MemoryListStoreOptions, type ReplaceResult, type StoredList
} from './list-store.js'
export { fileListStore, type FileListStoreOptions } from './file-list-store.js'
export { listChannel, type ListChangedEvent, type ListEvent, type ListEventListener, type ListFailedEvent, type ListLoadedEvent } from './list-events.js'
export { type DetailedEntry, type ListEntry } from './list-entry.js'
export { buildAddressSet, createAddressSet, type AddressSet, type AddressSetOptions, type AddressWarning } from './address-set.js'
export { formatAddress, parseAddress, parseEntry, type AddressRange, type EntryOptions, type Family, type ParsedAddress } from './address.js'
export {
  allowlistRoutesErrors, ipAllowlistRefusals, type AllowlistRoutesErrorCode, type IpAllowlistRefusalCode
} from './errors.js'
