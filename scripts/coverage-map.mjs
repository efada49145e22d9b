// Coverage counts a package's own sources. Built files that tests start as processes of their own are the same code twice.
import { readdirSync } from 'node:fs'

const sources = readdirSync('src', { recursive: true }).filter((file) => file.endsWith('.ts')).map((file) => `src/${file}`)

export default () => sources
