export { legacyHeaders, legacyHeaders as default, type LegacyHeadersGuard } from './plugin.js'
export type {
  AccessTokenDigest, Brownout, CredentialResolver, DeprecationOptions, LegacyHeadersOptions, SunsetExtension, TenantCredentials
} from './options.js'
export { legacyHeadersReasons, legacyHeadersRefusals, type LegacyHeadersReason, type LegacyHeadersRefusalCode } from './errors.js'
export { hashAccessToken, type LegacyHeadersIdentity } from './verify-credential.js'
export type { LegacyHeadersUsage, RouteUsage, TenantUsage } from './usage.js'
