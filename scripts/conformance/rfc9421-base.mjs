/**
 * Signature bases and component values of rfc9421.json and rfc9421-asym.json. What the signatures over them are worth is no
 * question here, so every base counts: also of responses, and of signatures that a guard refuses for another reason.
 */

import { isAuthError } from '@sallyport/guard'
import { Tally } from './tally.mjs'

const fieldTypes = { dict: 'dictionary', list: 'list', item: 'item' }

/**
 * Compares every base and every component value. A vector without a base has nothing to compare if it may be accepted, or if
 * it is refused for something that only its signature shows; it passes if no base can be made of it.
 */
export async function runRfc9421Base ({ header, vectors }, hmacAuth) {
  const tally = new Tally(`${header.file} (bases)`)
  for (const vector of vectors) {
    await tally.attempt(vector, () => {
      if (vector.level === 'component') component(vector, { hmacAuth, tally })
      else base(vector, { hmacAuth, tally })
    })
  }
  return tally
}

function component (vector, { hmacAuth: { parseList, readSignatureInput, buildSignatureBase }, tally }) {
  const made = attempt(() => {
    const input = readSignatureInput(parseList(`(${vector.component})`)[0])
    const text = buildSignatureBase(input, messageOf(vector), typesOf(vector))
    return text.slice(input.components[0].identifier.length + 2, text.lastIndexOf('\n'))
  })
  tally.judge(vector, made.value === (vector.value ?? undefined), `${vector.component} is ${made.value ?? `refused (${made.reason})`}, expected: ${vector.value}`)
}

function base (vector, { hmacAuth: { parseDictionary, readSignatureInput, buildSignatureBase }, tally }) {
  const made = attempt(() => {
    const fields = vector.message.headers.filter(([name]) => name.toLowerCase() === 'signature-input')
    const inputs = parseDictionary(fields.map(([, value]) => value).join(', '), { repeatedKeys: 'refuse' })
    const input = readSignatureInput(inputs.get(vector.label))
    return buildSignatureBase(input, messageOf(vector), typesOf(vector))
  })
  if (vector.signature_base !== undefined) tally.judge(vector, made.value === vector.signature_base, `the base is ${JSON.stringify(made.value) ?? `refused (${made.reason})`}`)
  else if (made.value === undefined) tally.judge(vector, true)
  else tally.skip(vector, 'no base to compare; the whole message is judged elsewhere')
}

function attempt (work) {
  try {
    return { value: work() }
  } catch (error) {
    if (!isAuthError(error)) throw error
    return { reason: error.code }
  }
}

function typesOf ({ sf_types: types = {} }) {
  return new Map(Object.entries(types).map(([name, type]) => [name, fieldTypes[type]]))
}

function messageOf ({ message, request }) {
  return message.status === undefined ? requestOf(message) : {
    status: message.status,
    ...linesOf(message),
    ...(request !== undefined && { request: requestOf(request) })
  }
}

function requestOf (message) {
  const [, authority] = message.headers.find(([name]) => name.toLowerCase() === 'host') ?? []
  return { method: message.method, target: message.target, scheme: message.scheme, authority: authority ?? '', ...linesOf(message) }
}

function linesOf ({ headers, trailers }) {
  return { fieldLines: headers.flat(), ...(trailers !== undefined && { trailerLines: trailers.flat() }) }
}
