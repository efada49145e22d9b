/** Sends a request byte by byte over a socket: `inject` and HTTP clients tidy paths and headers before anybody sees them. */

import { connect } from 'node:net'

/** What came back. */
export interface RawResponse {
  readonly status: number
  /** By name in lower case; every field line in the order it came. */
  readonly headers: Readonly<Record<string, readonly string[]>>
  readonly body: string
}

/**
 * Sends one request to 127.0.0.1 and reads the answer to its end.
 * @param request the whole request as text, or its lines (`['GET //a HTTP/1.1', 'Authorization: x']`), to which a `Host`
 * where none is given, `Connection: close` and the blank line are added
 * @param body sent after the lines; its `Content-Length` is yours to give
 */
export function rawRequest (port: number, request: string | readonly string[], body = ''): Promise<RawResponse> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    const socket = connect({ port, host: '127.0.0.1' }, () => {
      socket.write(typeof request === 'string' ? request : textOf(request, body), 'latin1')
    })
    socket.setTimeout(5_000, () => socket.destroy(new Error('no answer within 5 s')))
    socket.on('data', (chunk: Buffer) => chunks.push(chunk))
    socket.once('error', reject)
    socket.once('close', () => {
      const answer = Buffer.concat(chunks)
      if (answer.length === 0) reject(new Error('the connection was closed without an answer'))
      else resolve(parseResponse(answer.toString('latin1')))
    })
  })
}

function textOf (lines: readonly string[], body: string): string {
  const host = lines.some((line) => /^host:/i.test(line)) ? [] : ['Host: localhost']
  return [...lines, ...host, 'Connection: close', '', body].join('\r\n')
}

function parseResponse (text: string): RawResponse {
  const [head = '', ...rest] = text.split('\r\n\r\n')
  const [statusLine = '', ...lines] = head.split('\r\n')
  const headers: Record<string, string[]> = {}
  for (const line of lines) {
    const colon = line.indexOf(':')
    ;(headers[line.slice(0, colon).toLowerCase()] ??= []).push(line.slice(colon + 1).trim())
  }
  return { status: Number(statusLine.split(' ')[1]), headers, body: rest.join('\r\n\r\n') }
}
