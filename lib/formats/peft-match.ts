/**
 * Which modules PEFT's configuration means: `target_modules`, `exclude_modules`, `layers_to_transform` and the patterns of rank
 * and alpha, as peft/tuners/tuners_utils.py matches them (check_target_module_exists, get_pattern_key).
 */
import { createContext, Script } from 'node:vm'
import { CambiumError, messageOf } from '../errors.js'
import type { PeftConfig } from './peft-adapter.js'

/** Longest pattern that is compiled; those that people write are far shorter. */
const MAX_PATTERN = 10_000
/** A pattern that thinks longer about one name was made to. */
const TIMEOUT_MS = 1000

/** A Python regular expression, matched from the start of a name. */
export interface PythonPattern {
  /** the groups when it matches, [0] what it matched */
  exec(name: string): readonly (string | undefined)[] | null
  test(name: string): boolean
}

/**
 * Compiles a Python regular expression; `whole`: it must reach the end too. The two languages agree on what module names need;
 * (?P<name>…), (?P=name), \\Z and \\A are translated. A pattern with repetitions, which a hostile file may have chosen to take
 * for ever, runs under a time limit.
 * @throws E_ADAPTER for a pattern that does not compile, or (from exec and test) that takes too long
 */
export function compilePython(pattern: string, where: string, whole = true): PythonPattern {
  if (pattern.length > MAX_PATTERN)
    throw new CambiumError('E_ADAPTER', `${where}: expected a pattern of at most ${MAX_PATTERN} characters, got ${pattern.length}`)
  const translated = pattern
    .replace(/\(\?P<(\w+)>/g, '(?<$1>')
    .replace(/\(\?P=(\w+)\)/g, '\\k<$1>')
    .replace(/\\Z/g, '$')
    .replace(/\\A/g, '^')
  let regex: RegExp
  try {
    regex = new RegExp(whole ? `^(?:${translated})$` : `^(?:${translated})`, 's')
  } catch (error) {
    throw new CambiumError('E_ADAPTER', `${where}: expected a regular expression, got ${JSON.stringify(pattern)} (${messageOf(error)})`, {
      cause: error,
    })
  }
  const exec = isHarmless(pattern) ? (name: string) => regex.exec(name) : (name: string) => limited(regex, name, where)
  return { exec, test: (name) => exec(name) !== null }
}

/** At most three times "anything", and no other repetition. */
function isHarmless(pattern: string): boolean {
  const parts = pattern.split(/(?<!\\)\.\*\??/)
  return parts.length <= 4 && !/[*+{]/.test(parts.join(''))
}

const SCRIPT = new Script('regex.exec(name)')
const CONTEXT = createContext({ regex: / /, name: '' })

function limited(regex: RegExp, name: string, where: string): RegExpExecArray | null {
  try {
    Object.assign(CONTEXT, { regex, name })
    return SCRIPT.runInContext(CONTEXT, { timeout: TIMEOUT_MS }) as RegExpExecArray | null
  } catch (error) {
    throw new CambiumError(
      'E_ADAPTER',
      `${where}: expected a pattern that is matched in ${TIMEOUT_MS} ms, got ${regex.source.slice(0, 80)}`,
      {
        cause: error,
      },
    )
  }
}

const literal = (name: string) => name.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')

/** The name itself, or its last parts. */
const namedBy = (names: readonly string[], module: string) => names.some((name) => module === name || module.endsWith(`.${name}`))

type Matching = Pick<PeftConfig, 'targetModules' | 'excludeModules' | 'modulesToSave' | 'layersToTransform' | 'layersPattern'>

/**
 * A test of module names: would PEFT put an adapter there? `isLinear` answers for 'all-linear' (default: everything is).
 * Compile once, test many.
 */
export function targetMatcher(config: Matching, isLinear: (module: string) => boolean = () => true): (module: string) => boolean {
  const { targetModules = [], modulesToSave } = config
  const excluded = moduleTest(config.excludeModules ?? [], 'exclude_modules')
  const saved = modulesToSave.map((name) => compilePython(`(^|.*\\.)${name}($|\\..*)`, 'modules_to_save', false))
  const layer = layerTest(config)
  const isAll = typeof targetModules === 'string' && targetModules.toLowerCase() === 'all-linear'
  const found = isAll ? isLinear : moduleTest(targetModules, 'target_modules')
  return (module) =>
    !excluded(module) &&
    !saved.some((pattern) => pattern.test(module)) &&
    found(module) &&
    (typeof targetModules === 'string' || targetModules.includes(module) || layer(module))
}

function moduleTest(names: readonly string[] | string, where: string): (module: string) => boolean {
  if (typeof names !== 'string') return (module) => namedBy(names, module)
  const pattern = compilePython(names, where)
  return (module) => pattern.test(module)
}

/** The first number in a name is its layer; after `layers_pattern` when that is given. */
function layerTest({ layersToTransform, layersPattern }: Matching): (module: string) => boolean {
  if (layersToTransform === undefined) return () => true
  const sources =
    layersPattern.length === 0 ? ['.*?\\.[^.]*\\.(\\d+)\\.'] : layersPattern.map((name) => `(?:^|.*?\\.)(?:${name})\\.(\\d+)\\.`)
  const patterns = sources.map((source) => compilePython(source, 'layers_pattern', false))
  return (module) => {
    const index = patterns.map((pattern) => pattern.exec(module)?.at(-1)).find((found) => found !== undefined)
    return index !== undefined && layersToTransform.includes(Number(index))
  }
}

/** The value of the first pattern that matches the end of a module's name, at a dot; `standard` when none does. */
export function patternValue(patterns: ReadonlyMap<string, number>, module: string, standard: number): number {
  for (const [pattern, value] of patterns) {
    if (compilePython(`(.*\\.)?(${pattern})$`, 'pattern', false).test(module)) return value
  }
  return standard
}

/** A pattern for patternValue that means one module and no other: `^` and the name. */
export const patternOf = (module: string): string => `^${literal(module)}`
