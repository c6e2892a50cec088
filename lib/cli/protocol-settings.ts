/** The settings of `cambium eval --protocol`: flags and a YAML file, as for every command. */
import { z } from 'zod'
import { PROTOCOLS, type ProtocolMethod } from '../protocols/protocol.js'
import { METHODS } from '../train/fine-tune-method.js'
import { common, named, parseBytes, path } from './settings.js'

const number = z.number()
const alpha = number.min(0).max(2)
const list = <T extends z.ZodType>(of: T) => z.union([z.array(of).min(1), of.transform((one) => [one])])

/** `{train: …, test: …, val: …}`, by name. */
const datasets = z
  .record(z.string(), z.strictObject({ train: path, test: path, val: path.optional() }))
  .transform((map) =>
    Object.entries(map).map(([name, { val, ...paths }]) => ({ name, ...paths, ...(val === undefined ? {} : { validation: val }) })),
  )

const method = z.strictObject({
  method: z.enum(METHODS).optional(),
  lr: list(number.positive()).optional(),
  alpha: list(z.union([alpha, z.literal('validation')])).optional(),
  epochs: number.int().positive().optional(),
  weightDecay: number.min(0).optional(),
  ema: z.union([z.boolean(), number.min(0).max(1)]).optional(),
  rank: number.int().positive().optional(),
  drop: number.min(0).lt(1).optional(),
  dropBy: z.enum(['adapter', 'token']).optional(),
  scale: number.optional(),
  margin: number.min(0).optional(),
  epsilon: number.min(0).lt(1).optional(),
  tau: number.positive().optional(),
})

/** Names of methods, or `{NAME: {method: …, lr: …, …}}`; the name is the method's where none is said. */
const methods = z
  .union([list(z.enum(METHODS)).transform((names) => Object.fromEntries(names.map((name) => [name, {}]))), z.record(z.string(), method)])
  .transform((map, context) =>
    Object.entries(map).flatMap(([name, settings]): ProtocolMethod[] => {
      const { method: given, lr: rates, alpha: alphas, tau: temperature, ...rest } = settings as z.infer<typeof method>
      const known = METHODS.find((one) => one === (given ?? name))
      if (known !== undefined) return [{ name, method: known, ...definedOf({ rates, alphas, temperature }), ...rest }]
      context.addIssue({ code: 'custom', message: `${name}: expected method: one of ${METHODS.join(', ')}, got none` })
      return []
    }),
  )

const definedOf = (entries: object): object => Object.fromEntries(Object.entries(entries).filter(([, value]) => value !== undefined))

/** Each dataset names its own classes. */
const { classNames: _, ...shared } = common

export const protocolSettings = z.strictObject({
  ...shared,
  protocol: z.enum(PROTOCOLS),
  out: path,
  datasets,
  ood: named.optional(),
  methods,
  shots: list(number.int().positive()).optional(),
  seeds: list(number.int().min(0)).optional(),
  epochs: number.int().positive().optional(),
  batch: number.int().positive().optional(),
  warmup: number.int().min(0).optional(),
  alphas: z.array(alpha).min(1).optional(),
  memoryBudget: z.union([number.positive(), z.string().transform(parseBytes)]).optional(),
})
