import { crc32c, maskedCrc32c } from '../../lib/formats/crc32c.js'
import { encodeFileVersion, encodeScalars } from '../../lib/formats/tfevents.js'
import { readEventFile } from '../train/event-file.js'

test.each([
  ['123456789', Buffer.from('123456789'), 0xe3069283],
  ['32 zeros (RFC 3720)', Buffer.alloc(32), 0x8a9136aa],
  ['32 ones', Buffer.alloc(32, 0xff), 0x62a8ab43],
  ['nothing', Buffer.alloc(0), 0],
])('CRC-32C of %s', (_, bytes, expected) => {
  expect(crc32c(bytes)).toBe(expected)
})

test('the mask is TFRecord’s: an event file begins with 24 and its checksum', () => {
  expect(maskedCrc32c(Buffer.from('1800000000000000', 'hex'))).toBe(0x224b7fa3)
  const file = Buffer.from(encodeFileVersion(0))
  expect(file.subarray(0, 12).toString('hex')).toBe('1800000000000000a37f4b22')
  expect(file.subarray(12, -4).toString('latin1')).toBe(`\x09${'\0'.repeat(8)}\x1a\x0dbrain.Event:2`)
})

test('an independent reader finds what was written', () => {
  const scalars = { 'train/loss': 1.5, 'score/Größe ✓': -0.25, [`long ${'x'.repeat(300)}`]: Number.POSITIVE_INFINITY }
  const file = Buffer.concat([encodeFileVersion(1.25), encodeScalars(1700000000.125, 2 ** 40 + 300, scalars), encodeScalars(2, 0, {})])
  expect(readEventFile(file)).toEqual([
    { time: 1.25, step: 0, version: 'brain.Event:2', scalars: {} },
    { time: 1700000000.125, step: 2 ** 40 + 300, scalars },
    { time: 2, step: 0, scalars: {} },
  ])
})
