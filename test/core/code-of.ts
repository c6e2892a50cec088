/** The code of what `fn` throws or rejects with; undefined when it does not. Errors of the core have no class of ours. */
export async function codeOf(fn: () => unknown): Promise<string | undefined> {
  try {
    await fn()
    return undefined
  } catch (error) {
    return (error as { code?: string }).code ?? `no code: ${String(error)}`
  }
}

/** As {@link codeOf}, for what must throw at the call. */
export function thrownBy(fn: () => unknown): string | undefined {
  try {
    fn()
    return undefined
  } catch (error) {
    return (error as { code?: string }).code ?? `no code: ${String(error)}`
  }
}
