// Packs every public package, installs the tarballs in a folder of their own, and uses them as a stranger would: with import,
// with require, and typechecked from ESM and from CommonJS with skipLibCheck off.
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'

const root = resolve(import.meta.dirname, '..')
const folder = mkdtempSync(join(tmpdir(), 'sallyport-consumer-'))
const run = (command, args, cwd) => execFileSync(command, args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })

const packages = readdirSync(join(root, 'packages')).map((name) => join(root, 'packages', name))
  .map((path) => ({ path, manifest: JSON.parse(readFileSync(join(path, 'package.json'), 'utf8')) }))
  .filter(({ manifest }) => manifest.private !== true)
const guardName = (name) => name.replace('@sallyport/', '').replace(/-(\w)/g, (_match, letter) => letter.toUpperCase())

try {
  const tarballs = packages.map(({ path }) => join(folder, run('npm', ['pack', '--silent', '--pack-destination', folder], path).trim().split('\n').at(-1)))
  // The repository's own installation serves everything that is not ours, so this works offline too.
  writeFileSync(join(folder, 'package.json'), '{ "name": "consumer", "private": true }')
  mkdirSync(join(folder, 'node_modules', '@sallyport'), { recursive: true })
  for (const [i, { manifest }] of packages.entries()) {
    const target = join(folder, 'node_modules', manifest.name)
    mkdirSync(target, { recursive: true })
    run('tar', ['-xzf', tarballs[i], '-C', target, '--strip-components=1'], folder)
  }
  for (const name of readdirSync(join(root, 'node_modules'))) {
    if (name.startsWith('.') || name === '@sallyport') continue
    run('ln', ['-s', join(root, 'node_modules', name), join(folder, 'node_modules', name)], folder)
  }

  const esm = packages.map(({ manifest: { name } }) => `import ${guardName(name)}, { ${guardName(name)} as named${guardName(name)} } from '${name}'\nif (${guardName(name)} !== named${guardName(name)} || typeof ${guardName(name)} !== 'function') throw new Error('${name}')`)
  writeFileSync(join(folder, 'esm.mts'), `${esm.join('\n')}\n`)
  const cjs = packages.map(({ manifest: { name } }) => `import ${guardName(name)} = require('${name}')\nif (typeof ${guardName(name)}.${guardName(name)} !== 'function' || ${guardName(name)}.default !== ${guardName(name)}.${guardName(name)}) throw new Error('${name}')`)
  writeFileSync(join(folder, 'cjs.cts'), `${cjs.join('\n')}\n`)
  const compilerOptions = { module: 'nodenext', target: 'es2023', strict: true, skipLibCheck: false, types: ['node'], outDir: 'out' }
  writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['esm.mts', 'cjs.cts'] }))
  run(join(root, 'node_modules', '.bin', 'tsc'), ['-p', folder], folder)
  run(process.execPath, ['out/esm.mjs'], folder)
  run(process.execPath, ['out/cjs.cjs'], folder)
  console.log(`consumers: ${packages.length} packed packages load with import and require, and typecheck from both`)
} catch (error) {
  console.log(error.stdout ?? '', error.stderr ?? error)
  process.exitCode = 1
} finally {
  rmSync(folder, { recursive: true, force: true })
}
