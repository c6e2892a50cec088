/** Reads TensorBoard event files by the book: frames with bitwise checksums, then protobuf fields by their numbers. */
export interface ScalarEvent {
  readonly time: number
  readonly step: number
  readonly version?: string
  readonly scalars: Readonly<Record<string, number>>
}

/** CRC-32C bit by bit, and TFRecord's mask. */
function maskedCrc(bytes: Uint8Array): number {
  let crc = 0xffffffffn
  for (const byte of bytes) {
    crc ^= BigInt(byte)
    for (let bit = 0; bit < 8; bit++) crc = crc & 1n ? (crc >> 1n) ^ 0x82f63b78n : crc >> 1n
  }
  crc ^= 0xffffffffn
  return Number((((crc >> 15n) | (crc << 17n)) + 0xa282ead8n) & 0xffffffffn)
}

export function readEventFile(file: Uint8Array): ScalarEvent[] {
  const bytes = Buffer.from(file)
  const events: ScalarEvent[] = []
  for (let at = 0; at < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(at))
    if (bytes.readUInt32LE(at + 8) !== maskedCrc(bytes.subarray(at, at + 8))) throw new Error(`length at ${at}`)
    const record = bytes.subarray(at + 12, at + 12 + length)
    if (bytes.readUInt32LE(at + 12 + length) !== maskedCrc(record)) throw new Error(`record at ${at}`)
    events.push(eventOf(record))
    at += 16 + length
  }
  return events
}

function eventOf(record: Buffer): ScalarEvent {
  const event = { time: Number.NaN, step: 0, scalars: {} as Record<string, number>, version: undefined as string | undefined }
  for (const [field, value] of fieldsOf(record)) {
    if (field === 1) event.time = (value as Buffer).readDoubleLE()
    else if (field === 2) event.step = Number(value)
    else if (field === 3) event.version = String(value)
    else if (field === 5)
      for (const [, each] of fieldsOf(value as Buffer)) {
        const entry = new Map(fieldsOf(each as Buffer))
        event.scalars[String(entry.get(1))] = (entry.get(2) as Buffer).readFloatLE()
      }
    else throw new Error(`field ${field}`)
  }
  return event
}

function fieldsOf(message: Buffer): [number, bigint | Buffer][] {
  const fields: [number, bigint | Buffer][] = []
  let at = 0
  const varint = () => {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = message[at++]
      value |= BigInt(byte & 127) << shift
      if (byte < 128) return value
    }
  }
  while (at < message.length) {
    const tag = Number(varint())
    const wire = tag & 7
    if (wire === 0) fields.push([tag >> 3, varint()])
    else {
      const size = wire === 1 ? 8 : wire === 5 ? 4 : Number(varint())
      fields.push([tag >> 3, message.subarray(at, at + size)])
      at += size
    }
  }
  return fields
}
