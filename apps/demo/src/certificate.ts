/** The development certificate: made on the first start, kept in the data folder, made anew when it no longer serves. */

import { createPrivateKey, X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { join } from 'node:path'
import { generate } from 'selfsigned'
import { ensureFolder, readIfThere, replaceFile } from './private-files.js'

export interface Certificate {
  /** PEM. Signed by itself, so it is its own authority: `curl --cacert`. */
  readonly cert: string
  readonly key: string
  /** Where `cert` lies. */
  readonly path: string
  readonly validUntil: Date
}

export interface CertificateOptions {
  readonly folder: string
  /** The host that the server listens on, beside the names that every certificate here has. */
  readonly host?: string
  /** Milliseconds since the epoch. */
  readonly now: number
}

const standingNames = ['localhost', 'api.localhost', 'sandbox.localhost', '127.0.0.1', '::1']
const wildcards = ['0.0.0.0', '::']
const DAY_MS = 86_400_000
const LIFETIME_DAYS = 365
/** So that it does not run out while the server runs. */
const RENEW_DAYS = 7

export async function loadCertificate ({ folder, host, now }: CertificateOptions): Promise<Certificate> {
  ensureFolder(folder)
  const [path, keyPath] = [join(folder, 'certificate.pem'), join(folder, 'certificate.key')]
  const names = [...new Set([...standingNames, ...(host === undefined || wildcards.includes(host) ? [] : [host])])]
  const [cert, key] = [readIfThere(path), readIfThere(keyPath)]
  if (cert !== undefined && key !== undefined && stillServes({ cert, key, names, now })) return { cert, key, path, validUntil: endOf(cert) }
  const made = await makeCertificate(names, now)
  replaceFile(keyPath, made.key)
  replaceFile(path, made.cert, 0o644)
  return { ...made, path, validUntil: endOf(made.cert) }
}

function stillServes ({ cert, key, names, now }: { cert: string, key: string, names: readonly string[], now: number }): boolean {
  try {
    const found = new X509Certificate(cert)
    const isDue = now < Date.parse(found.validFrom) || now > Date.parse(found.validTo) - RENEW_DAYS * DAY_MS
    const hasNames = names.every((name) => (isIP(name) === 0 ? found.checkHost(name) : found.checkIP(name)) !== undefined)
    return !isDue && hasNames && found.checkPrivateKey(createPrivateKey(key))
  } catch {
    return false
  }
}

function endOf (cert: string): Date {
  return new Date(new X509Certificate(cert).validTo)
}

/** No authority: whoever trusts it trusts this one server, not whoever finds its key. */
async function makeCertificate (names: readonly string[], now: number): Promise<{ cert: string, key: string }> {
  const made = await generate([{ name: 'commonName', value: 'Sallyport demo' }], {
    keyType: 'ec',
    curve: 'P-256',
    algorithm: 'sha256',
    notBeforeDate: new Date(now - DAY_MS),
    notAfterDate: new Date(now + LIFETIME_DAYS * DAY_MS),
    extensions: [
      { name: 'basicConstraints', cA: false, critical: true },
      { name: 'keyUsage', digitalSignature: true, critical: true },
      { name: 'extKeyUsage', serverAuth: true },
      { name: 'subjectAltName', altNames: names.map((name) => isIP(name) === 0 ? { type: 2, value: name } : { type: 7, ip: name }) }
    ]
  })
  return { cert: made.cert, key: made.private }
}
