/** Structured fields (RFC 9651), written: the one canonical text of each value. What could not be read again is refused. */

import { refusal } from './errors.js'
import type { BareItem, Dictionary, InnerList, Item, List, Member, Parameters } from './structured-fields.js'

const printable = /^[\x20-\x7e]*$/
const keyText = /^[a-z*][a-z0-9_.*-]*$/
const tokenText = /^[A-Za-z*][\w!#$%&'*+.^`|~:/-]*$/

export function serializeDictionary (dictionary: Dictionary): string {
  let text = ''
  for (const [key, member] of dictionary) {
    if (text !== '') text += ', '
    text += serializeKey(key)
    text += member.type === 'boolean' && member.value ? serializeParameters(member.parameters) : `=${serializeMember(member)}`
  }
  return text
}

export function serializeList (list: List): string {
  return list.map(serializeMember).join(', ')
}

export function serializeMember (member: Member): string {
  return member.type === 'inner-list' ? serializeInnerList(member) : serializeItem(member)
}

export function serializeInnerList ({ items, parameters }: InnerList): string {
  return `(${items.map(serializeItem).join(' ')})${serializeParameters(parameters)}`
}

export function serializeItem (item: Item): string {
  return serializeBareItem(item) + serializeParameters(item.parameters)
}

export function serializeParameters (parameters: Parameters): string {
  let text = ''
  for (const [key, value] of parameters) {
    text += `;${serializeKey(key)}`
    if (value.type !== 'boolean' || !value.value) text += `=${serializeBareItem(value)}`
  }
  return text
}

function serializeBareItem (item: BareItem): string {
  switch (item.type) {
    case 'string': return serializeString(item.value)
    case 'integer': return serializeInteger(item.value)
    case 'decimal': return serializeDecimal(item.value)
    case 'bytes': return `:${Buffer.from(item.value).toString('base64')}:`
    case 'boolean': return item.value ? '?1' : '?0'
    case 'date': return `@${serializeInteger(item.value)}`
    case 'display-string': return serializeDisplayString(item.value)
    case 'token': return textOf(item.value, tokenText)
  }
}

function serializeKey (key: string): string {
  return textOf(key, keyText)
}

function serializeString (value: string): string {
  const text = textOf(value, printable)
  return `"${/["\\]/.test(text) ? text.replace(/["\\]/g, '\\$&') : text}"`
}

function serializeInteger (value: number): string {
  if (!Number.isInteger(value) || Math.abs(value) > 999_999_999_999_999) throw unwritable()
  return String(value + 0)
}

/** At most three digits behind the point, rounded half to even (RFC 9651 section 4.1.5), and at least one. */
function serializeDecimal (value: number): string {
  const scaled = Math.abs(value) * 1000
  const floor = Math.floor(scaled)
  const thousandths = scaled - floor === 0.5 ? floor + floor % 2 : Math.round(scaled)
  if (!(thousandths < 1e15)) throw unwritable()
  const fraction = String(thousandths % 1000).padStart(3, '0').replace(/0{1,2}$/, '')
  return `${value < 0 ? '-' : ''}${Math.floor(thousandths / 1000)}.${fraction}`
}

function serializeDisplayString (value: string): string {
  if (/\p{Surrogate}/u.test(value)) throw unwritable()
  const text = Buffer.from(value, 'utf8').toString('latin1')
  return `%"${text.replace(/[^\x20-\x7e]|["%]/g, (character) => `%${character.charCodeAt(0).toString(16).padStart(2, '0')}`)}"`
}

function textOf (text: string, form: RegExp): string {
  if (!form.test(text)) throw unwritable()
  return text
}

function unwritable (): Error {
  return refusal('ERR_HMAC_AUTH_SIGNATURE_INVALID', { reason: 'malformed-field' })
}
