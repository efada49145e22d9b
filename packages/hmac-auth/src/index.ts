export { hmacAuth, hmacAuth as default, type HmacAuthGuard } from './plugin.js'
export { type HmacAuthOptions } from './options.js'
export { type HmacAuthIdentity, type HmacKey, type ShortSecrets } from './keys.js'
export { type KeyAnswer, type KeyResolver, type ResolvedKey } from './key-source.js'
export { type Gap, type HmacAlgorithm, type Profile } from './profile.js'
export { rfc9421, type Rfc9421Options } from './rfc9421.js'
export { headers, layeredGateway, type HeaderSchemeOptions, type Part } from './header-scheme.js'
export { authorizationHmac, type AuthorizationHmacOptions } from './authorization-hmac.js'
export { type TimestampFormat } from './timestamps.js'
export { createRequestSigner, signedFetch, type RequestSigner, type RequestSignerOptions, type RequestToSign, type SignedFetchOptions } from './signer.js'
export { type SignatureExplanation } from './explain.js'
export { hmacAuthReasons, hmacAuthRefusals, type HmacAuthReason, type HmacAuthRefusalCode } from './errors.js'
export { formatContentDigest, parseContentDigest, watchContentDigest, type ContentDigest, type DigestAlgorithm, type DigestWatch } from './content-digest.js'
export {
  buildSignatureBase, hasComponent, readSignatureInput,
  type Component, type FieldLines, type FieldType, type FieldTypes, type Message, type RequestMessage, type ResponseMessage, type SignatureInput
} from './signature-base.js'
export {
  parseDictionary, parseItem, parseList,
  type BareItem, type Dictionary, type InnerList, type Item, type List, type Member, type Parameters, type ParseOptions
} from './structured-fields.js'
export { serializeDictionary, serializeInnerList, serializeItem, serializeList, serializeMember, serializeParameters } from './serialize-fields.js'
