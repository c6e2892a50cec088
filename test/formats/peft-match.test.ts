/** Which modules a configuration means, against peft's own functions (fixtures/oracle/make_peft_fixtures.py). */
import { readFileSync } from 'node:fs'
import { parsePeftConfig } from '../../lib/formats/peft-config.js'
import { compilePython, patternOf, patternValue, targetMatcher } from '../../lib/formats/peft-match.js'
import { codeOf } from '../core/code-of.js'
import { fixture } from '../fixture.js'

interface Golden {
  config: Record<string, unknown>
  modules: Record<string, [boolean, number, number]>
}
const golden = JSON.parse(readFileSync(fixture('peft', 'matching.json'), 'utf8')) as Golden[]

test.each(golden.map(({ config, modules }) => [JSON.stringify(config), config, modules] as const))('%s', (_, fields, modules) => {
  const { config } = parsePeftConfig({ peft_type: 'LORA', r: 4, lora_alpha: 8, ...fields }, 'test')
  const matches = targetMatcher(config)
  const found = Object.keys(modules).map((name) => [
    name,
    [matches(name), patternValue(config.rankPattern, name, config.r), patternValue(config.alphaPattern, name, config.loraAlpha)],
  ])
  expect(Object.fromEntries(found)).toEqual(modules)
  expect(Object.values(modules).some(([is]) => is) || fields.target_modules === 'fc1').toBe(true)
})

test("'all-linear' asks the caller what is linear", () => {
  const { config } = parsePeftConfig({ peft_type: 'LORA', target_modules: 'all-linear', exclude_modules: ['k'] }, 'test')
  const matches = targetMatcher(config, (name) => name !== 'norm')
  expect(['q', 'norm', 'k', 'a.k'].map(matches)).toEqual([true, false, false, false])
})

test('a pattern of one module means no other', () => {
  const patterns = new Map([[patternOf('a.layers.1.fc1'), 3]])
  expect(
    ['a.layers.1.fc1', 'b.a.layers.1.fc1', 'aXlayers.1.fc1', 'a.layers.1.fc1.x'].map((name) => patternValue(patterns, name, 0)),
  ).toEqual([3, 0, 0, 0])
})

test('a pattern that never comes to an end, or is none, is an error', async () => {
  const name = `${'a'.repeat(64)}b`
  expect(await codeOf(() => compilePython('(a+)+$', 'target_modules').test(name))).toBe('E_ADAPTER')
  expect(await codeOf(() => compilePython('(a|a)*', 'target_modules').test(name))).toBe('E_ADAPTER')
  expect(await codeOf(() => compilePython('(', 'target_modules'))).toBe('E_ADAPTER')
  expect(await codeOf(() => compilePython('a'.repeat(20_000), 'target_modules'))).toBe('E_ADAPTER')
})
