import t from 'tap'
import { join } from 'node:path'
import { spawnSync } from 'node:child_process'

const bench = join(import.meta.dirname, '..', 'dist', 'bench.js')
const run = (...args: readonly string[]) => spawnSync(process.execPath, [bench, ...args], { encoding: 'utf8' })

t.test('measures a variant beside its bare route', async (t) => {
  const { status, stdout, stderr } = run('--rounds', '1', '--seconds', '0.1', '--only', 'http-message-signatures')
  t.equal(status, 0, stderr)
  t.match(stdout, /^\| bare \| [1-9]\d* \| 1\.00 \| \(\d/m)
  t.match(stdout, /^\| http-message-signatures, no nonce claim \| [1-9]\d* \| \d/m)
  t.match(stdout, /1 round of 0\.1 s for each side, Node v/)
})

t.test('refuses what it cannot measure', async (t) => {
  t.match(run('--only', 'no such').stderr, /no variant's name contains "no such"/)
  t.match(run('--rounds', '0').stderr, /--rounds takes a whole number/)
})
