/** A request over a real socket, byte for byte as given: `inject` and HTTP clients fold the case and repeats of headers. */

import { once } from 'node:events'
import { connect } from 'node:net'

/**
 * Sends `{ method, url, headers: [[name, value]], body }` to the app and gives status, headers and body of the answer.
 * A host is added where there is none.
 */
export async function sendRaw (app, { method = 'GET', url = '/', headers = [], body = '' }) {
  if (!app.server.listening) await app.listen({ host: '127.0.0.1', port: 0 })
  const socket = connect(app.server.address().port, '127.0.0.1')
  await once(socket, 'connect')
  const has = (wanted) => headers.some(([name]) => name.toLowerCase() === wanted)
  const lines = [
    `${method} ${url} HTTP/1.1`,
    ...headers.map(([name, value]) => `${name}: ${value}`),
    ...(has('host') ? [] : ['Host: 127.0.0.1']),
    ...(body === '' || has('content-length') ? [] : [`Content-Length: ${Buffer.byteLength(body, 'latin1')}`]),
    'Connection: close'
  ]
  const chunks = []
  socket.on('data', (chunk) => chunks.push(chunk))
  socket.end(`${lines.join('\r\n')}\r\n\r\n${body}`, 'latin1')
  await once(socket, 'close')
  return parseReply(Buffer.concat(chunks).toString('latin1'))
}

function parseReply (text) {
  const at = text.indexOf('\r\n\r\n')
  const [statusLine = '', ...lines] = text.slice(0, Math.max(at, 0)).split('\r\n')
  const headers = new Map(lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]))
  return { status: Number(statusLine.split(' ')[1] ?? 0), headers, body: text.slice(at + 4) }
}
