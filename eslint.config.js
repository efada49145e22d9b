import { defineConfig, globalIgnores } from 'eslint/config'
import js from '@eslint/js'
import stylistic from '@stylistic/eslint-plugin'
import tseslint from 'typescript-eslint'

/** Imports point one way: index -> plugin -> options, core -> errors -> guard. A core file never reaches up. */
const upwards = [
  { regex: '^\\./(plugin|index)\\.js$', message: 'the core must not import plugin.ts or index.ts' },
  { regex: '^(fastify|fastify-plugin)$', allowTypeImports: true, message: 'only plugin.ts touches Fastify at run time' }
]

export default defineConfig(
  globalIgnores(['**/dist/', '**/.tap/', '**/.turbo/', '**/.data/']),
  js.configs.recommended,
  stylistic.configs.customize({ indent: 2, quotes: 'single', semi: false, braceStyle: '1tbs', commaDangle: 'never', arrowParens: true }),
  { rules: { '@stylistic/space-before-function-paren': ['error', 'always'], '@stylistic/max-statements-per-line': 'off', '@stylistic/quote-props': 'off', '@stylistic/member-delimiter-style': 'off', '@stylistic/generator-star-spacing': 'off', '@stylistic/yield-star-spacing': 'off', '@stylistic/operator-linebreak': 'off', '@stylistic/multiline-ternary': 'off' } },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/no-floating-promises': ['error', { allowForKnownSafeCalls: [
        { from: 'package', package: '@tapjs/core', name: 'test' },
        { from: 'package', package: '@tapjs/test', name: 'test' }
      ] }]
    }
  },
  {
    files: ['packages/*/src/**/*.ts'],
    ignores: ['packages/*/src/index.ts', 'packages/*/src/plugin.ts', 'packages/bearer-jwt/src/private-jwt.ts', 'packages/test-kit/**'],
    rules: { '@typescript-eslint/no-restricted-imports': ['error', { patterns: upwards }] }
  },
  { files: ['**/*.js', '**/*.mjs'], languageOptions: { globals: { process: 'readonly', console: 'readonly', performance: 'readonly', fetch: 'readonly', Buffer: 'readonly', setTimeout: 'readonly', setImmediate: 'readonly', URL: 'readonly' } } }
)
