/** What the server says when it is up: what is served, where things lie, and commands to paste. */

import { join } from 'node:path'
import { documentedExample } from './companies.js'
import { appFolder } from './config.js'

export interface WelcomeFacts {
  /** `https://localhost:8443` */
  readonly origin: string
  readonly policies: string
  readonly dataFolder: string
  /** Absent where TLS ends at a proxy: then the commands would be refused. */
  readonly certificate?: { readonly path: string, readonly validUntil: Date } | undefined
  readonly pid: number
}

export function welcomeText ({ origin, policies, dataFolder, certificate, pid }: WelcomeFacts): string {
  return [
    `Sallyport demo: ${origin}`,
    policies.trimEnd(),
    certificate === undefined
      ? `Plain HTTP: only requests that a proxy of TRUST_PROXY received over HTTPS are served.\nData: ${dataFolder}`
      : `Certificate: ${certificate.path} (until ${certificate.validUntil.toISOString().slice(0, 10)})\nData:        ${dataFolder}`,
    ...(certificate === undefined ? [] : commandsToPaste(origin, dataFolder, certificate.path)),
    `Who still uses the legacy headers: kill -USR2 ${pid} (the answer comes here). To stop: Ctrl+C.`,
    ''
  ].join('\n\n')
}

/** Absolute paths, so that they work in any terminal; every paste mints a token of its own, which lives 15 seconds. */
function commandsToPaste (origin: string, dataFolder: string, certificatePath: string): readonly string[] {
  const url = `${origin}/departments/v3/core/departments`
  const curl = `curl --cacert ${quoted(certificatePath)}`
  const data = dataFolder === join(appFolder, '.data') ? '' : `DATA_DIR=${quoted(dataFolder)} `
  const jwt = (company: string, more = ''): string => {
    return `-H "JWT: $(${data}node ${quoted(join(appFolder, 'dist', 'commands', 'mint.js'))} --company ${company}${more})"`
  }
  const { companyId, accessToken } = documentedExample
  const commands = {
    'The departments of company 100001, by JWT': `${curl} ${jwt('100001')} ${url}`,
    'One more; a token is good for one POST': `${curl} ${jwt('100001')} -H 'Content-Type: application/json' -d '{"name":"Laboratory"}' ${url}`,
    'The legacy headers, as documented: look at Deprecation, Sunset and Link': `${curl} -i -H 'company_id: ${companyId}' -H 'access_token: ${accessToken}' ${url}`,
    'Refused, 401: a token that lives 16 seconds': `${curl} -i ${jwt('100001', ' --lifetime 16')} ${url}`,
    'Refused, 403: the allowlist of company 100002 does not hold this machine': `${curl} -i ${jwt('100002')} ${url}`
  }
  return Object.entries(commands).map(([what, command]) => `# ${what}\n${command}`)
}

function quoted (text: string): string {
  return /^[\w./:=@-]+$/.test(text) ? text : `'${text.replaceAll('\'', '\'\\\'\'')}'`
}
