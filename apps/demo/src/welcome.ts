/** What the server says when it is up: what is served, where things lie, and commands to paste. */

import { join } from 'node:path'
import { documentedExample } from './companies.js'
import { appFolder } from './config.js'
import { ADMINISTRATOR } from './users.js'

export interface WelcomeFacts {
  /** `https://localhost:8443` */
  readonly origin: string
  readonly policies: string
  readonly dataFolder: string
  /** Absent where TLS ends at a proxy: then the commands would be refused. */
  readonly certificate?: { readonly path: string, readonly validUntil: Date } | undefined
  /** The file that holds the login of the first user of the commerce API, as long as it is there. */
  readonly adminLogin?: string | undefined
  readonly pid: number
}

export function welcomeText ({ origin, policies, dataFolder, certificate, adminLogin, pid }: WelcomeFacts): string {
  return [
    `Sallyport demo: ${origin}`,
    policies.trimEnd(),
    certificate === undefined
      ? `Plain HTTP: only requests that a proxy of TRUST_PROXY received over HTTPS are served.\nData: ${dataFolder}`
      : `Certificate: ${certificate.path} (until ${certificate.validUntil.toISOString().slice(0, 10)})\nData:        ${dataFolder}`,
    ...(certificate === undefined ? [] : commandsToPaste({ origin, dataFolder, certificatePath: certificate.path, adminLogin })),
    adminLogin === undefined
      ? `The commerce API: POST ${origin}/commerce/api/login. A new password: npm run --silent user --workspace apps/demo -- password ${ADMINISTRATOR}`
      : `The first user of the commerce API is ${ADMINISTRATOR}; the login lies in ${adminLogin}. Keep the password elsewhere and remove the file.`,
    `Who still uses the legacy headers: kill -USR2 ${pid} (the answer comes here). To stop: Ctrl+C.`,
    ''
  ].join('\n\n')
}

interface Places {
  readonly origin: string
  readonly dataFolder: string
  readonly certificatePath: string
  readonly adminLogin: string | undefined
}

/** Absolute paths, so that they work in any terminal; every paste makes tokens of its own. */
function commandsToPaste ({ origin, dataFolder, certificatePath, adminLogin }: Places): readonly string[] {
  const curl = `curl --cacert ${quoted(certificatePath)}`
  const data = dataFolder === join(appFolder, '.data') ? '' : `DATA_DIR=${quoted(dataFolder)} `
  const output = (name: string, args: string): string => `$(${data}node ${quoted(join(appFolder, 'dist', 'commands', `${name}.js`))} ${args})`
  const commands = {
    ...forDepartments(`${origin}/departments/v3/core/departments`, curl, (args) => `-H "JWT: ${output('mint', args)}"`),
    ...forFulfilment(`${origin}/fulfilment/nordlys-outfitters/api/v1`, curl, (args) => `-H "Authorization: Bearer ${output('account', args)}"`),
    ...(adminLogin !== undefined && forCommerce(`${origin}/commerce/api`, curl, adminLogin))
  }
  return Object.entries(commands).map(([what, command]) => `# ${what}\n${command}`)
}

type Commands = Readonly<Record<string, string>>

const jsonType = '-H \'Content-Type: application/json\''
const json = (text: string): string => `${jsonType} -d '${text}'`

function forDepartments (url: string, curl: string, jwt: (args: string) => string): Commands {
  const { companyId, accessToken } = documentedExample
  return {
    'The departments of company 100001, by JWT': `${curl} ${jwt('--company 100001')} ${url}`,
    'One more; a token is good for one POST': `${curl} ${jwt('--company 100001')} ${json('{"name":"Laboratory"}')} ${url}`,
    'The legacy headers, as documented: look at Deprecation, Sunset and Link': `${curl} -i -H 'company_id: ${companyId}' -H 'access_token: ${accessToken}' ${url}`,
    'Refused, 401: a token that lives 16 seconds': `${curl} -i ${jwt('--company 100001 --lifetime 16')} ${url}`,
    'Refused, 403: the allowlist of company 100002 does not hold this machine': `${curl} -i ${jwt('--company 100002')} ${url}`
  }
}

function forFulfilment (url: string, curl: string, bearer: (args: string) => string): Commands {
  const [own, sandbox] = [bearer('token nordlys-outfitters'), bearer('token nordlys-outfitters --environment sandbox')]
  const order = '{"order_number":"\'$(date +%s)\'","ship_to":{"name":"Ann","address1":"Main St 1","city":"Oslo","country":"NO"},"line_items":[{"sku":"TENT-2","quantity":1}]}'
  return {
    'An order of the account nordlys-outfitters, by encrypted token': `${curl} ${own} ${json(order)} ${url}/orders`,
    'Its orders': `${curl} ${own} ${url}/orders`,
    'A further token, which can only read': `${curl} ${own} ${json('{"secret_phrase":"correct horse battery","scopes":["orders:read"]}')} ${url}/secrets`,
    'The sandbox has keys, orders and limits of its own, by host': `${curl} -i ${sandbox} -H 'Host: sandbox.localhost' ${url}/orders`,
    'Refused, 401: a sandbox token in production': `${curl} -i ${sandbox} ${url}/orders`,
    'Refused, 403: the token of another account': `${curl} -i ${bearer('token havn-trading')} ${url}/orders`
  }
}

function forCommerce (url: string, curl: string, adminLogin: string): Commands {
  const login = `${curl} -s ${jsonType} -d ${quoted(`@${adminLogin}`)} ${url}/login`
  const bearer = `-H "Authorization: Bearer $(${login} | node -p 'JSON.parse(fs.readFileSync(0)).token')"`
  return {
    'Log in to the commerce API': login,
    'A named token for an integration; GET tokens lists it, DELETE tokens/<id> ends it': `${curl} ${bearer} ${json('{"purpose":"Boomi Integration","validitySeconds":86400}')} ${url}/tokens`,
    'What is on hand of a product': `${curl} ${bearer} ${json('{"productId":"TENT-2","facilityId":"OSLO","quantity":40}')} ${url}/updateInventory`
  }
}

function quoted (text: string): string {
  return /^[\w./:=@-]+$/.test(text) ? text : `'${text.replaceAll('\'', '\'\\\'\'')}'`
}
