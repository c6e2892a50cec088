// The adapters that a checkpoint says were merged into it, each to be taken out as often as it was put in.
import { CambiumError } from '../errors.js'
import { adapterFingerprint, type Provenance } from './provenance.js'

type Merged = Provenance['adapters'][number]

export class MergedAdapters {
  private readonly rest: Merged[]
  /** those asked for without a weight: path by fingerprint */
  private readonly asked = new Map<string, string>()

  /** @param all none where nothing is known of a merge: then anything may be taken out */
  constructor(private readonly all: readonly Merged[]) {
    this.rest = [...all]
  }

  /** Names of those that are still there. */
  get left(): string[] {
    return this.rest.map(({ name }) => name)
  }

  /**
   * Takes one out.
   * @param weight when it was given; then the share of a merge may be taken
   * @returns the weight to subtract
   * @throws E_UNMERGE for an adapter that was not merged, or more often than it was
   */
  async take(path: string, folder: string, weight?: number): Promise<number> {
    if (this.all.length === 0) return weight ?? 1
    const own = await adapterFingerprint(folder)
    const times = this.all.filter(({ fingerprint }) => fingerprint === own).length
    if (times === 0)
      throw new CambiumError(
        'E_UNMERGE',
        `${path}: expected an adapter that was merged into this model (${this.all.map(({ name }) => name).join(', ')}), got another`,
      )
    const same = this.rest.filter(({ fingerprint }) => fingerprint === own)
    const one = same.find((merged) => merged.weight === weight) ?? same[0]
    if (one !== undefined) this.rest.splice(this.rest.indexOf(one), 1)
    if (weight !== undefined) return weight
    if (one === undefined)
      throw new CambiumError('E_UNMERGE', `${path}: expected it as often as it was merged (${countOf(times)}), got it more often`)
    this.asked.set(own, path)
    return one.weight
  }

  /** @throws E_UNMERGE where an adapter was merged more often than it was named: which of them is meant, only a weight can say */
  requireAll(): void {
    for (const [own, path] of this.asked) {
      const merged = this.all.filter(({ fingerprint }) => fingerprint === own)
      const still = this.rest.filter(({ fingerprint }) => fingerprint === own).length
      if (still === 0) continue
      const weights = merged.map(({ weight }) => weight)
      throw new CambiumError(
        'E_UNMERGE',
        `${path}: expected it as often as it was merged (${countOf(merged.length)}, with the weights ${weights.join(' and ')}), ` +
          `got it ${countOf(merged.length - still)}: name it ${countOf(merged.length)} (--adapter), or give the weight to take out (--weights)`,
      )
    }
  }
}

const countOf = (times: number): string => (times === 1 ? 'once' : times === 2 ? 'twice' : `${times} times`)
