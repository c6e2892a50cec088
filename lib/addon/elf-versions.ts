/**
 * What a shared object of Linux asks of the system's libraries: the symbol versions in its `.gnu.version_r`, as `objdump -p` shows
 * them. Reads 64-bit little-endian ELF, which is what Node's platforms use.
 */

const VERSIONS_NEEDED = 0x6ffffffe

/**
 * Whether a file has the end that its first 64 bytes speak of: the system maps one that was cut short all the same, and the process
 * dies when it touches what is missing. True for what is no such ELF.
 */
export function isWhole(start: Uint8Array, size: number): boolean {
  if (!isElf64(start)) return true
  const view = new DataView(start.buffer, start.byteOffset, start.byteLength)
  return Number(view.getBigUint64(40, true)) + view.getUint16(58, true) * view.getUint16(60, true) <= size
}

function isElf64(file: Uint8Array): boolean {
  return file.byteLength >= 64 && [0x7f, 0x45, 0x4c, 0x46, 2, 1].every((byte, i) => file[i] === byte)
}

/** Versions by library, such as `libc.so.6` -> [`GLIBC_2.2.5`, …]; empty for a file that is no such ELF or names no version. */
export function neededVersions(file: Uint8Array): Map<string, string[]> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  const needed = new Map<string, string[]>()
  if (!isElf64(file)) return needed
  const offset = (at: number) => Number(view.getBigUint64(at, true))
  const sections = offset(40)
  const [size, count] = [view.getUint16(58, true), view.getUint16(60, true)]
  const section = (index: number) => sections + index * size
  for (let i = 0; i < count; i++) {
    if (view.getUint32(section(i) + 4, true) !== VERSIONS_NEEDED) continue
    const names = offset(section(view.getUint32(section(i) + 40, true)) + 24)
    readNeeded(view, offset(section(i) + 24), (at) => textAt(file, names + at), needed)
  }
  return needed
}

/** A chain of libraries, each with a chain of versions; every link is relative to its own start, and 0 ends a chain. */
function readNeeded(view: DataView, start: number, text: (at: number) => string, needed: Map<string, string[]>): void {
  for (let at = start, next = -1; next !== 0; at += next) {
    next = view.getUint32(at + 12, true)
    const library = text(view.getUint32(at + 4, true))
    const versions = needed.get(library) ?? []
    needed.set(library, versions)
    for (let entry = at + view.getUint32(at + 8, true), step = -1; step !== 0; entry += step) {
      step = view.getUint32(entry + 12, true)
      versions.push(text(view.getUint32(entry + 8, true)))
    }
  }
}

function textAt(file: Uint8Array, at: number): string {
  return new TextDecoder().decode(file.subarray(at, file.indexOf(0, at)))
}

/** The newest glibc that a file asks for, such as `2.28`; undefined when it asks for none. */
export function requiredGlibc(file: Uint8Array): string | undefined {
  const versions = [...neededVersions(file).values()].flat().flatMap((name) => /^GLIBC_(\d[\d.]*)$/.exec(name)?.[1] ?? [])
  return versions.sort(compareVersions).at(-1)
}

/** Orders `2.4` before `2.28`. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((text) => text.split('.').map(Number))
  const at = left.findIndex((part, i) => part !== (right[i] ?? 0))
  return at < 0 ? left.length - right.length : left[at] - (right[at] ?? 0)
}
