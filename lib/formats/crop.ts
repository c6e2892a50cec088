/** Where crops lie: the two rules of a centre crop, and torchvision's random one. */

/** How a centre crop rounds: Hugging Face's (size - n) // 2, or OpenAI's and torchvision's round((size - n) / 2). */
export type CropRule = 'hf' | 'openai'

export interface TrainCrop {
  /** Share of the area, least and most. WiSE-FT, FLYP and R-Adapter: [0.9, 1], the default. */
  scale?: readonly [number, number]
  /** Width over height, least and most. Default [3/4, 4/3]. */
  ratio?: readonly [number, number]
  /** Probability of a mirror image. Default 0. */
  flip?: number
}

/** Left or top edge of a centre crop of `crop` pixels; negative when the image is smaller, the rest being zeros. */
export function cropOffset(size: number, crop: number, rule: CropRule): number {
  if (rule === 'hf') return Math.floor((size - crop) / 2)
  return size < crop ? -Math.floor((crop - size) / 2) : roundHalfEven((size - crop) / 2)
}

/** torchvision.transforms.RandomResizedCrop.get_params: ten tries, then the largest central crop of a legal ratio. */
export function randomResizedCrop(
  width: number,
  height: number,
  uniform: () => number,
  options: TrainCrop = {},
): [number, number, number, number] {
  const scale = options.scale ?? [0.9, 1]
  const ratio = options.ratio ?? [3 / 4, 4 / 3]
  const logs = ratio.map(Math.log)
  for (let attempt = 0; attempt < 10; attempt++) {
    const area = width * height * (scale[0] + (scale[1] - scale[0]) * uniform())
    const aspect = Math.exp(logs[0] + (logs[1] - logs[0]) * uniform())
    const w = roundHalfEven(Math.sqrt(area * aspect))
    const h = roundHalfEven(Math.sqrt(area / aspect))
    if (w <= 0 || h <= 0 || w > width || h > height) continue
    const top = Math.floor(uniform() * (height - h + 1))
    const left = Math.floor(uniform() * (width - w + 1))
    return [left, top, w, h]
  }
  const own = width / height
  const w = own > ratio[1] ? Math.max(1, roundHalfEven(height * ratio[1])) : width
  const h = own < ratio[0] ? Math.max(1, roundHalfEven(width / ratio[0])) : height
  return [Math.floor((width - w) / 2), Math.floor((height - h) / 2), w, h]
}

/** Python's round(). */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value)
  const rest = value - floor
  return rest < 0.5 || (rest === 0.5 && floor % 2 === 0) ? floor : floor + 1
}
