/** What a killed process may leave: whole files and, under names that say so, what it was writing. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { openSafetensors } from '../../lib/formats/safetensors-read.js'

/** Every file below a folder, by path, without those that are being written aside. */
export function filesBelow(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .filter((path) => !leftover(path.slice(folder.length)))
    .sort()
}

export const leftover = (path: string) => /\.cambium\.tmp(\/|$)/.test(path)

/** Names of all that is below a folder and was being written aside. */
export const leftoversBelow = (folder: string): string[] => readdirSync(folder, { recursive: true }).map(String).filter(leftover)

/** @throws for a file that is cut or mixed */
export async function expectReadable(folder: string): Promise<void> {
  for (const path of filesBelow(folder)) {
    const name = path.slice(folder.length + 1)
    if (name.endsWith('.safetensors'))
      await openSafetensors(path) // the header says how long the file must be
    else if (name.endsWith('.json')) JSON.parse(readFileSync(path, 'utf8'))
    else if (name.endsWith('.jsonl')) {
      const lines = readFileSync(path, 'utf8').split('\n')
      for (const line of lines.slice(0, -1)) JSON.parse(line) // a log is appended to: its last line may be cut
    }
  }
}

/** Contents by path below the folder. */
export function contents(folder: string, only: (name: string) => boolean = () => true): Map<string, Buffer> {
  const names = filesBelow(folder).map((path) => path.slice(folder.length + 1))
  return new Map(names.filter(only).map((name) => [name, readFileSync(join(folder, name))]))
}

export function expectSame(found: ReadonlyMap<string, Buffer>, expected: ReadonlyMap<string, Buffer>): void {
  expect([...found.keys()]).toEqual([...expected.keys()])
  expect([...found].filter(([name, bytes]) => !bytes.equals(expected.get(name)!)).map(([name]) => name)).toEqual([])
}
