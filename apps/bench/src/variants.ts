/** Everything that is measured, by name, in the order of the table. */

import { addressVariants } from './address-variants.js'
import { signatureVariants } from './signature-variants.js'
import { tokenVariants } from './token-variants.js'
import { bareVariants, type Variant } from './variant.js'

export const variants: Readonly<Record<string, Variant>> = { ...bareVariants, ...tokenVariants, ...signatureVariants, ...addressVariants }

export function variantOf (name: string): Variant {
  const variant = variants[name]
  if (variant === undefined) throw new Error(`no variant is called "${name}"; there are: ${Object.keys(variants).join('; ')}`)
  return variant
}

/** The variants whose name contains the text, with those that they are compared to. Bare routes are measured beside each of them. */
export function chosenNames (text: string): readonly string[] {
  const chosen = new Set<string>()
  for (const [name, { base, target }] of Object.entries(variants)) {
    if (!name.includes(text)) continue
    for (const one of [`${base}, again`, name, target?.fasterThan]) if (one !== undefined && one !== base) chosen.add(one)
  }
  return Object.keys(variants).filter((name) => chosen.has(name))
}
