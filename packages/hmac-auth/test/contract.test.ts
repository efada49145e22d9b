import t from 'tap'
import { contractSuite } from '@sallyport/test-kit'
import * as packageExports from '../src/index.js'
import { contract } from './fixtures/contract.js'

await contractSuite(t, { ...contract, packageExports })
