/** Secrets that have to be opened again, sealed with AES-256-GCM under a key that lies in a file of its own. */

import { createCipheriv, createDecipheriv, createSecretKey, randomBytes, type KeyObject } from 'node:crypto'
import { join } from 'node:path'
import { ensureFolder, readIfThere, replaceFile, versionOf, whileLocked } from './private-files.js'

const KEY_BYTES = 32
const IV_BYTES = 12
const TAG_BYTES = 16

/**
 * The key that seals the register of this name: `companies.key` beside `companies.json`. Where there is neither, it is made.
 * Throws, naming the file, for a key that is missing or damaged beside a register.
 */
export async function openSealingKey ({ folder, name }: { readonly folder: string, readonly name: string }): Promise<KeyObject> {
  ensureFolder(folder)
  const [path, keyPath] = [join(folder, `${name}.json`), join(folder, `${name}.key`)]
  if (versionOf(path) === undefined) {
    await whileLocked(path, () => {
      if (versionOf(path) === undefined && versionOf(keyPath) === undefined) replaceFile(keyPath, `${randomBytes(KEY_BYTES).toString('base64url')}\n`)
    })
  }
  const bytes = Buffer.from(readIfThere(keyPath)?.trim() ?? '', 'base64url')
  if (bytes.length !== KEY_BYTES) throw new Error(`${keyPath} is missing or damaged, so the secrets in ${name}.json can't be opened; restore it, or remove the folder to start anew`)
  return createSecretKey(bytes)
}

/** Whose secret it is goes into the seal, so that it can't be moved to another owner. */
function labelOf (owner: readonly string[]): Buffer {
  return Buffer.from(JSON.stringify(owner))
}

export function seal (secret: KeyObject, sealingKey: KeyObject, owner: readonly string[]): string {
  const iv = randomBytes(IV_BYTES)
  const cipher = createCipheriv('aes-256-gcm', sealingKey, iv, { authTagLength: TAG_BYTES }).setAAD(labelOf(owner))
  const sealed = Buffer.concat([cipher.update(secret.export()), cipher.final()])
  return Buffer.concat([iv, sealed, cipher.getAuthTag()]).toString('base64url')
}

/** Throws for what was sealed with another key, for another owner, or changed since, and for a secret that is too short. */
export function unseal (sealed: string, sealingKey: KeyObject, { owner, minimumBytes }: { readonly owner: readonly string[], readonly minimumBytes: number }): KeyObject {
  const bytes = Buffer.from(sealed, 'base64url')
  if (bytes.length < IV_BYTES + minimumBytes + TAG_BYTES) throw new Error('is too short')
  try {
    const cipher = createDecipheriv('aes-256-gcm', sealingKey, bytes.subarray(0, IV_BYTES), { authTagLength: TAG_BYTES })
      .setAAD(labelOf(owner)).setAuthTag(bytes.subarray(-TAG_BYTES))
    return createSecretKey(Buffer.concat([cipher.update(bytes.subarray(IV_BYTES, -TAG_BYTES)), cipher.final()]))
  } catch {
    throw new Error('can\'t be opened: it was sealed with another key, for another owner, or changed since')
  }
}
