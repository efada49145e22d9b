/** What all commands have in common: they explain themselves, and say what is wrong. */

/** An option in whole hours, as milliseconds. Throws if it is anything else. */
export function hoursOf (option: string, text: string, { least = 0, most = 99_999 }: { readonly least?: number, readonly most?: number } = {}): number {
  const hours = /^\d{1,5}$/.test(text) ? Number(text) : NaN
  if (!(hours >= least && hours <= most)) throw new Error(`${option} must be a whole number of hours, ${least} to ${most}`)
  return hours * 3_600_000
}

/** Prints what a command answers to the words it was called with. Anything thrown is told on stderr, with exit code 1. */
export async function runCommand (usage: string, command: (args: readonly string[]) => Promise<string>): Promise<void> {
  const args = process.argv.slice(2)
  if (args.includes('--help') || args.includes('-h')) {
    console.log(usage)
    return
  }
  try {
    console.log(await command(args))
  } catch (error) {
    const { message = String(error), code } = error as { readonly message?: string, readonly code?: unknown }
    console.error(String(code).startsWith('ERR_PARSE_ARGS') ? `${message}\n\n${usage}` : message)
    process.exitCode = 1
  }
}
