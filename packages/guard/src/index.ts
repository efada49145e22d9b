export { guard, guard as default, guardOf, guardPluginOf, type GuardContext, type GuardOptions, type GuardPluginSpec } from './plugin.js'
export { allOf, anyOf, open, optional, type AllOfOptions, type OpenOptions } from './compose.js'
export {
  defineGuard, type BodyWatch, type Claim, type Guard, type GuardDefinition, type Judgement, type Obligation, type Policy, type Principal, type Proof,
  type Requirement, type RequirementContext
} from './guard.js'
export { hasBody } from './bodies.js'
export { bodyVerified } from './duties.js'
export { hasIdentity, identityOf, type RequestAuth } from './state.js'
export {
  AuthError, defineRefusals, guardRefusals, isAuthError, isOptionsError, OptionsError, reasonOf,
  type AuthErrorInit, type GuardRefusalCode, type Outcome, type RefusalDetails, type RefusalEntry
} from './errors.js'
export { challenge } from './challenge.js'
export { headerValues, severalLines, soleHeaderValue, type CredentialSource } from './credentials.js'
export { createMac, isSameMac, type Mac, type MacAlgorithm } from './mac.js'
export { isSameIgnoringCase, startsWithIgnoringCase } from './letters.js'
export { type ClaimResult, type ClaimStore, type StateStore, StoreUnavailable } from './claim-store.js'
export { decisionChannel } from './events.js'
export { assertForwardingIsSafe, type ForwardingQuestion } from './forwarding.js'
export { OptionReader, type CommonOptions, type Decision, type IntegerRule } from './options.js'
export { isLive, readLifetime, type Lifetime, type LifetimeMs } from './lifetime.js'
export { BoundedCache, ownText } from './bounded-cache.js'
export { type PolicyDescription } from './policy.js'
export { askResolver, inTime, isThenable } from './resolver.js'
export { type RoutePolicy } from './audit.js'
export { problemDetails } from './problem-details.js'
export { memoryStore, type MemoryStore, type MemoryStoreOptions } from './memory-store.js'
export { redisStore, type RedisClient, type RedisStoreOptions } from './redis-store.js'
