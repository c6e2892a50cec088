/**
 * TensorBoard's event files: TFRecord frames around `Event` messages of tensorflow/core/util/event.proto. Only what scalars
 * need is written: wall_time (1, double), step (2, int64), file_version (3, string) and summary (5) with values (1) of tag (1,
 * string) and simple_value (2, float). A reader takes any prefix of whole records.
 */
import { maskedCrc32c } from './crc32c.js'

/** @param time seconds since 1970 */
export function encodeFileVersion(time: number): Uint8Array {
  return frame(Buffer.concat([double(1, time), bytes(3, Buffer.from('brain.Event:2'))]))
}

/**
 * One record with some scalars of a step.
 * @param time seconds since 1970
 * @param step a whole number of at least 0
 */
export function encodeScalars(time: number, step: number, scalars: Readonly<Record<string, number>>): Uint8Array {
  const values = Object.entries(scalars).map(([tag, value]) => bytes(1, Buffer.concat([bytes(1, Buffer.from(tag)), float(2, value)])))
  return frame(Buffer.concat([double(1, time), varint(2, step), bytes(5, Buffer.concat(values))]))
}

/** Length, its checksum, the record, its checksum; little endian. */
function frame(record: Uint8Array): Uint8Array {
  const framed = Buffer.alloc(record.length + 16)
  framed.writeBigUInt64LE(BigInt(record.length), 0)
  framed.writeUInt32LE(maskedCrc32c(framed.subarray(0, 8)), 8)
  framed.set(record, 12)
  framed.writeUInt32LE(maskedCrc32c(record), 12 + record.length)
  return framed
}

const tag = (field: number, wire: number): number => (field << 3) | wire

function double(field: number, value: number): Buffer {
  const encoded = Buffer.alloc(9)
  encoded[0] = tag(field, 1)
  encoded.writeDoubleLE(value, 1)
  return encoded
}

function float(field: number, value: number): Buffer {
  const encoded = Buffer.alloc(5)
  encoded[0] = tag(field, 5)
  encoded.writeFloatLE(value, 1)
  return encoded
}

function varint(field: number, value: number): Buffer {
  return Buffer.from([tag(field, 0), ...varintBytes(value)])
}

function bytes(field: number, value: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([tag(field, 2), ...varintBytes(value.length)]), value])
}

function varintBytes(value: number): number[] {
  const encoded: number[] = []
  let rest = value
  for (; rest >= 128; rest = Math.floor(rest / 128)) encoded.push((rest % 128) | 128)
  return [...encoded, rest]
}
