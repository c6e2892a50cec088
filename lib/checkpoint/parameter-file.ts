/** Parameters as tensors of a safetensors file: written in f32 under their names, read back into the device by them. */
import { CambiumError } from '../errors.js'
import { type SafetensorsFile, storedRequest } from '../formats/safetensors-read.js'
import type { TensorToWrite } from '../formats/safetensors-write.js'
import { native } from '../native.js'
import type { Parameter, Tensor } from '../tensor.js'

/** @param values an f32 tensor of its shape whose values stand in the parameter's place, such as a running average */
export function parameterToWrite({ name, shape, id }: Parameter, values: Pick<Tensor, 'id'> = { id }): TensorToWrite {
  return { name, dtype: 'F32', shape, data: async () => new Uint8Array(await native.read(values.id)) }
}

/** @throws `code` naming the first parameter that the file does not have, or has in another shape */
export async function fillParameters(parameters: readonly Parameter[], file: SafetensorsFile, code: string): Promise<void> {
  for (const { id, name, shape } of parameters) {
    const stored = file.tensors.get(name)
    if (!stored || stored.shape.join() !== shape.join())
      throw new CambiumError(
        code,
        `${name}: expected shape [${shape}], got ${stored ? `[${stored.shape}]` : 'no such tensor'} in ${file.path}`,
      )
    await native.readTensorInto(id, storedRequest(stored))
  }
}
