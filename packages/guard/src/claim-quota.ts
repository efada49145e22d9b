/** Counts live claims of one group (a key id, a tenant), so that one valid key can't fill a store that all share. Per process. */

interface Place { readonly group: string, readonly maxLiveClaims: number }
interface Group { expiries: number[], earliest: number }

const SWEEP_MS = 10_000

export class ClaimQuota {
  readonly #groups = new Map<string, Group>()
  #sweepAt = 0

  /** Takes a place in the group until `expiresAtMs`; false if the group holds all it may. */
  take ({ group, maxLiveClaims }: Place, now: number, expiresAtMs: number): boolean {
    if (now >= this.#sweepAt) this.#sweep(now)
    let held = this.#groups.get(group)
    if (held === undefined) this.#groups.set(group, held = { expiries: [], earliest: expiresAtMs })
    // Looking through a full group is worth it only once something in it has expired.
    if (held.expiries.length >= maxLiveClaims && held.earliest <= now) dropExpired(held, now)
    if (held.expiries.length >= maxLiveClaims) return false
    held.expiries.push(expiresAtMs)
    held.earliest = Math.min(held.earliest, expiresAtMs)
    return true
  }

  /** Frees a place whose claim was not made after all. */
  giveBack (group: string, expiresAtMs: number): void {
    const held = this.#groups.get(group)
    const at = held?.expiries.lastIndexOf(expiresAtMs) ?? -1
    if (at >= 0) held!.expiries.splice(at, 1)
  }

  #sweep (now: number): void {
    this.#sweepAt = now + SWEEP_MS
    for (const [name, group] of this.#groups) {
      dropExpired(group, now)
      if (group.expiries.length === 0) this.#groups.delete(name)
    }
  }
}

function dropExpired (group: Group, now: number): void {
  group.expiries = group.expiries.filter((expiry) => expiry > now)
  group.earliest = group.expiries.reduce((a, b) => Math.min(a, b), Infinity)
}
