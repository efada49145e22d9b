/** The command `npx @sallyport/hmac-auth sign`: signs a request and prints the curl line that sends it. */

import { readFile } from 'node:fs/promises'
import { parseArgs } from 'node:util'
import { isOptionsError } from '@sallyport/guard'
import { authorizationHmac } from './authorization-hmac.js'
import { decodeBytes } from './field-lines.js'
import { headers, layeredGateway } from './header-scheme.js'
import type { Profile } from './profile.js'
import { rfc9421 } from './rfc9421.js'
import { createRequestSigner } from './signer.js'

const usage = `Signs a request and prints the curl line that sends it, once: a signature counts for a minute and for one request.

  npx @sallyport/hmac-auth sign --key-id <id> (--secret-env <name> | --secret-file <path>) [options] <url>

  --key-id <id>           the key, as the server knows it
  --secret-env <name>     the environment variable that holds the secret
  --secret-file <path>    the file that holds the secret; a line feed at its end does not count
  --secret-encoding <e>   utf8 (default), hex or base64
  --profile <name>        rfc9421 (default), headers, layered-gateway, kong, apisix or cavage
  -X, --method <method>   default: GET, or POST where there is a body
  -H, --header <line>     a header to send, 'Content-Type: application/json'; several if need be
  -d, --data <text>       the body
  --data-file <path>      the file that holds the body
  --explain               print the string to sign, too (on standard error)

A secret is never taken from the command line, where other users of the machine could read it.
`

const profiles: Readonly<Record<string, () => Profile>> = {
  'rfc9421': () => rfc9421(),
  'headers': () => headers(),
  'layered-gateway': () => headers(layeredGateway),
  'kong': () => authorizationHmac({ dialect: 'kong', accepts: ['no-nonce', 'no-key-id'] }),
  'apisix': () => authorizationHmac({ dialect: 'apisix', accepts: ['no-nonce'] }),
  'cavage': () => authorizationHmac({ dialect: 'cavage', accepts: ['no-nonce', 'no-key-id'] })
}

/** Where the command reads and writes; for tests. */
export interface CommandContext {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly out: (text: string) => void
  readonly error: (text: string) => void
  readonly clock: () => number
}

/** What was typed can't be run. */
class UsageError extends Error {}

const processContext: CommandContext = {
  env: process.env,
  out: (text) => { process.stdout.write(text) },
  error: (text) => { process.stderr.write(text) },
  clock: Date.now
}

/** Runs the command. Gives the exit code: 0, 1 if the request can't be signed, 2 for a wrong command line. */
export async function runCommand (args: readonly string[], context: CommandContext = processContext): Promise<number> {
  try {
    await sign(args, context)
    return 0
  } catch (error) {
    const isUsage = error instanceof UsageError || (error as { code?: string }).code?.startsWith('ERR_PARSE_ARGS') === true
    context.error(isUsage ? `${(error as Error).message}\n\n${usage}` : `${messageOf(error)}\n`)
    return isUsage ? 2 : 1
  }
}

async function sign (args: readonly string[], { env, out, error, clock }: CommandContext): Promise<void> {
  const { values, positionals: [command, url, ...rest] } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      'key-id': { type: 'string' },
      'secret-env': { type: 'string' },
      'secret-file': { type: 'string' },
      'secret-encoding': { type: 'string', default: 'utf8' },
      'profile': { type: 'string', default: 'rfc9421' },
      'method': { type: 'string', short: 'X' },
      'header': { type: 'string', short: 'H', multiple: true, default: [] },
      'data': { type: 'string', short: 'd' },
      'data-file': { type: 'string' },
      'explain': { type: 'boolean', default: false }
    }
  })
  if (command !== 'sign' || url === undefined || rest.length > 0) throw new UsageError('The command is: sign <url>')
  if (values['key-id'] === undefined) throw new UsageError('--key-id is required')
  if (!Object.hasOwn(profiles, values.profile)) throw new UsageError(`--profile must be one of: ${Object.keys(profiles).join(', ')}`)
  if (values.data !== undefined && values['data-file'] !== undefined) throw new UsageError('--data and --data-file are two bodies')
  const body = values['data-file'] === undefined ? values.data : await readBytes('--data-file', values['data-file'])
  const method = values.method ?? (body === undefined ? 'GET' : 'POST')
  const secret = await readSecretText(values, env)
  const signer = createRequestSigner({ profile: profiles[values.profile]!(), keyId: values['key-id'], secret: decoded(secret, values['secret-encoding']), clock })
  const own = headersOf(values.header, body)
  const request = { method, url, headers: own, ...(body !== undefined && { body }) }
  const signed = { ...own, ...signer.sign(request) }
  if (values.explain) error(`${signer.explainSignature({ ...request, headers: signed }).stringToSign!}\n`)
  out(`${curlLine({ method, url, headers: signed, data: values.data, file: values['data-file'] })}\n`)
}

interface SecretPlace { readonly 'secret-env'?: string | undefined, readonly 'secret-file'?: string | undefined }

async function readSecretText ({ 'secret-env': name, 'secret-file': path }: SecretPlace, env: CommandContext['env']): Promise<string> {
  if ((name === undefined) === (path === undefined)) throw new UsageError('--secret-env or --secret-file is required, and not both')
  if (path !== undefined) return (await readBytes('--secret-file', path)).toString().replace(/\r?\n$/, '')
  const text = env[name!]
  if (text === undefined || text === '') throw new UsageError(`the environment variable ${name} holds no secret`)
  return text
}

async function readBytes (option: string, path: string): Promise<Buffer> {
  try {
    return await readFile(path)
  } catch (cause) {
    throw new Error(`${option}: ${path} can't be read (${(cause as NodeJS.ErrnoException).code})`, { cause })
  }
}

function decoded (text: string, encoding: string): Uint8Array {
  if (encoding === 'utf8') return Buffer.from(text)
  if (encoding !== 'hex' && encoding !== 'base64') throw new UsageError('--secret-encoding must be utf8, hex or base64')
  const bytes = decodeBytes(text, encoding)
  if (bytes === undefined) throw new UsageError(`the secret is not ${encoding}`)
  return bytes
}

function headersOf (lines: readonly string[], body: string | Uint8Array | undefined): Record<string, string> {
  const own: Record<string, string> = {}
  for (const line of lines) {
    const colon = line.indexOf(':')
    if (colon < 1) throw new UsageError(`--header must be "Name: value", not "${line}"`)
    own[line.slice(0, colon).trim().toLowerCase()] = line.slice(colon + 1).trim()
  }
  // What curl would add by itself, said openly, since the profile might sign it.
  return { ...(body !== undefined && { 'content-type': 'application/json' }), ...own }
}

interface CurlRequest {
  readonly method: string
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  readonly data: string | undefined
  readonly file: string | undefined
}

/** For a POSIX shell. `--path-as-is`, because what was signed must be what is sent. */
function curlLine ({ method, url, headers, data, file }: CurlRequest): string {
  const body = file === undefined ? data === undefined ? [] : ['--data-raw', quoted(data)] : ['--data-binary', quoted(`@${file}`)]
  const lines = Object.entries(headers).flatMap(([name, value]) => ['-H', quoted(`${name}: ${value}`)])
  const verb = method === 'HEAD' ? ['--head'] : ['-X', quoted(method)]
  return ['curl', '--path-as-is', ...verb, ...lines, ...body, quoted(new URL(url).href)].join(' ')
}

function quoted (text: string): string {
  return `'${text.replaceAll('\'', '\'\\\'\'')}'`
}

function messageOf (error: unknown): string {
  if (isOptionsError(error) && error.option === 'secret') return 'the secret can\'t be used: it is empty'
  return error instanceof Error ? error.message : String(error)
}
