/** What all commands have in common: they explain themselves, and say what is wrong. */

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
    const { message = String(error), code = '' } = error as { message?: string, code?: string }
    console.error(code.startsWith('ERR_PARSE_ARGS') ? `${message}\n\n${usage}` : message)
    process.exitCode = 1
  }
}
