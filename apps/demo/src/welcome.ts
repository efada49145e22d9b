/** What the server says when it is up: what is served, where things lie, and commands to paste. */

import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { documentedExample } from './companies.js'
import { appFolder } from './config.js'
import type { MerchantFiles } from './merchants.js'
import { MERCHANTS_LIST } from './payments.js'
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
  /** Those of the payments gateway to try things with, as long as their files are there. */
  readonly merchants: readonly ExampleMerchant[]
  readonly pid: number
}

export interface ExampleMerchant extends MerchantFiles {
  readonly id: string
  readonly keyId: string
}

export function welcomeText ({ origin, policies, dataFolder, certificate, adminLogin, merchants, pid }: WelcomeFacts): string {
  return [
    `Sallyport demo: ${origin}`,
    policies.trimEnd(),
    certificate === undefined
      ? `Plain HTTP: only requests that a proxy of TRUST_PROXY received over HTTPS are served.\nData: ${dataFolder}`
      : `Certificate: ${certificate.path} (until ${certificate.validUntil.toISOString().slice(0, 10)})\nData:        ${dataFolder}`,
    ...(certificate === undefined ? [] : commandsToPaste({ origin, dataFolder, certificatePath: certificate.path, adminLogin, merchants })),
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
  readonly merchants: readonly ExampleMerchant[]
}

/** Absolute paths, so that they work in any terminal; every paste makes tokens of its own. */
function commandsToPaste ({ origin, dataFolder, certificatePath, adminLogin, merchants: [merchant, other] }: Places): readonly string[] {
  const curl = `curl --cacert ${quoted(certificatePath)}`
  const data = dataFolder === join(appFolder, '.data') ? '' : `DATA_DIR=${quoted(dataFolder)} `
  const output = (name: string, args: string): string => `$(${data}node ${quoted(join(appFolder, 'dist', 'commands', `${name}.js`))} ${args})`
  const commands = {
    ...forDepartments(`${origin}/departments/v3/core/departments`, curl, (args) => `-H "JWT: ${output('mint', args)}"`),
    ...forFulfilment(`${origin}/fulfilment/nordlys-outfitters/api/v1`, curl, (args) => `-H "Authorization: Bearer ${output('account', args)}"`),
    ...(adminLogin !== undefined && forCommerce(`${origin}/commerce/api`, curl, adminLogin)),
    ...(merchant !== undefined && other !== undefined && forPayments(`${origin}/payments`, { curl, merchant, other, administrator: output('merchant', 'administrator ann') }))
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
  const bearer = `-H "Authorization: Bearer ${member('token', login)}"`
  return {
    'Log in to the commerce API': login,
    'A named token for an integration; GET tokens lists it, DELETE tokens/<id> ends it': `${curl} ${bearer} ${json('{"purpose":"Boomi Integration","validitySeconds":86400}')} ${url}/tokens`,
    'Set what is on hand of a product': `${curl} ${bearer} ${json('{"productId":"TENT-2","facilityId":"OSLO","quantity":40}')} ${url}/updateInventory`,
    'What is on hand': `${curl} ${bearer} ${url}/inventory`
  }
}

interface Gateway {
  readonly curl: string
  readonly merchant: ExampleMerchant
  readonly other: ExampleMerchant
  /** Prints the token of an administrator. */
  readonly administrator: string
}

const signCommand = join(dirname(fileURLToPath(import.meta.resolve('@sallyport/hmac-auth/package.json'))), 'bin', 'hmac-auth.js')

function forPayments (url: string, { curl, merchant, other, administrator }: Gateway): Commands {
  const [transactions, list] = [`${url}/v3.0/transactions`, `${url}/gateway/allowlist/${MERCHANTS_LIST}`]
  const transaction = (prefix: string): string => `{"reference":"${prefix}-'$(date +%s)'","amount":12500,"currency":"NOK"}`
  const login = ({ login: path }: ExampleMerchant): string => `${curl} -s ${jsonType} -d ${quoted(`@${path}`)} ${url}/auth/token`
  const bearer = (by: ExampleMerchant): string => `-H "Authorization: Bearer ${member('access_token', login(by))}"`
  const admin = `-H "Authorization: Bearer ${administrator}"`
  // What the command prints is a line of curl that trusts only what the machine trusts.
  const signed = ({ keyId, keySecret }: ExampleMerchant, token: string, profile = 'layered-gateway'): string =>
    `"$(node ${quoted(signCommand)} sign --profile ${profile} --key-id ${keyId} --secret-file ${quoted(keySecret)} ${token} -d '${transaction(profile)}' ${transactions}) -s ${curl.slice('curl '.length)}"`
  return {
    [`A pair of tokens for merchant ${merchant.id}`]: login(merchant),
    'A refresh token is good once: its second use is refused, 401, and ends all tokens that descend from the login':
      `token=${member('refresh_token', login(merchant))}; for n in 1 2; do ${curl} ${jsonType} -d '{"refresh_token":"'$token'"}' ${url}/auth/refresh; done`,
    'A signed transaction; the same once more is refused, 401': `line=${signed(merchant, bearer(merchant))}; eval "$line"; eval "$line"`,
    'Signed as RFC 9421 has it': `eval ${signed(merchant, bearer(merchant), 'rfc9421')}`,
    'The merchant\'s transactions; reading needs no signature': `${curl} ${bearer(merchant)} ${transactions}`,
    'Refused, 401: a transaction without a signature': `${curl} -i ${bearer(merchant)} ${json(transaction('unsigned'))} ${transactions}`,
    'Refused, 403: the signature of one merchant beside the token of another': `eval ${signed(merchant, bearer(other))}`,
    'Who may call the gateway': `${curl} -i ${admin} ${list}`,
    'Takes this machine off the list, which needs force: from now on its calls are 403': `${curl} -X PATCH ${admin} ${json('{"remove":["127.0.0.1"]}')} '${list}?force=true'`,
    'Refused, 403': login(merchant),
    'Puts this machine back': `${curl} -X PATCH ${admin} ${json('{"add":[{"entry":"127.0.0.1","note":"this machine"}]}')} ${list}`,
    'Who changed the list, and when': `${curl} ${admin} ${list}/history`
  }
}

/** A member of the JSON that a command prints. */
function member (name: string, command: string): string {
  return `$(${command} | node -p 'JSON.parse(fs.readFileSync(0)).${name}')`
}

function quoted (text: string): string {
  return /^[\w./:=@-]+$/.test(text) ? text : `'${text.replaceAll('\'', '\'\\\'\'')}'`
}
