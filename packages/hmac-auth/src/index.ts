export { createMac, isSameMac, type Mac, type MacAlgorithm } from './mac.js'
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
export { hmacAuthRefusals, type HmacAuthRefusalCode } from './errors.js'
