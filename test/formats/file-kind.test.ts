/** What stands where weights, an adapter or an image were expected is told by its bytes. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { decodeImage } from '../../lib/data/decode.js'
import { isCambiumError } from '../../lib/errors.js'
import { readAdapterJson } from '../../lib/formats/adapter-folder.js'
import { openCheckpoint } from '../../lib/formats/checkpoint.js'
import { kindOfBytes } from '../../lib/formats/file-kind.js'
import { openPeftAdapter } from '../../lib/formats/peft-read.js'
import { temporaryFolder } from '../temporary-folder.js'

const folder = temporaryFolder()
const POINTER = `version https://git-lfs.github.com/spec/v1\noid sha256:${'a'.repeat(64)}\nsize 605157884\n`
const place = (name: string, content: Uint8Array | string) => {
  writeFileSync(join(folder, name), content)
  return join(folder, name)
}
const bytes = (head: string, filled = 200) => Buffer.concat([Buffer.from(head, 'latin1'), Buffer.alloc(filled)])
const said = (work: Promise<unknown>) =>
  work.then(
    () => 'opened',
    (error) => (isCambiumError(error) ? `${error.code} ${error.message}` : `bare ${error}`),
  )

test.each([
  ['x.png', bytes('\x89PNG\r\n\x1a\n'), 'a PNG image'],
  ['x.jpg', bytes('\xff\xd8\xff\xe0'), 'a JPEG image'],
  ['x.bmp', bytes('BM\x00\x01\0\0\0\0\0\0'), 'a BMP image'],
  ['x.ppm', bytes('P6\n8 8\n255\n'), 'a Netpbm image'],
  ['x.gguf', bytes('GGUF\x03\0\0\0'), 'weights in GGUF (llama.cpp)'],
  ['x.h5', bytes('\x89HDF\r\n\x1a\n'), 'an HDF5 file (Keras)'],
  ['x.onnx', bytes('\x08\x07\x12\x07pytorch'), 'an ONNX model'],
  ['x.msgpack', bytes('\x81\xa6params'), 'weights in MessagePack (Flax)'],
  ['x.tflite', bytes('\x1c\0\0\0TFL3'), 'a model for TensorFlow Lite'],
  ['x.npy', bytes('\x93NUMPY\x01\0'), 'a NumPy array'],
  ['x.zip', bytes('PK\x03\x04\x14\0'), 'a zip archive'],
  ['x.gz', bytes('\x1f\x8b\x08'), 'a gzip archive'],
  ['x.pdf', bytes('%PDF-1.7\n'), 'a PDF'],
  ['x.txt', 'hello there', 'a text that begins "hello there"'],
  ['json.safetensors', '{"error":"Repository not found"}', 'a text that begins "{\\"error\\":\\"Repository not found\\"}"'],
  ['html.safetensors', '\n<!DOCTYPE html><html>', 'an HTML page, such as a download that failed leaves'],
  ['lfs.safetensors', POINTER, 'a pointer of git-lfs: git lfs pull fetches the file'],
  ['pytorch_model.bin', POINTER, 'a pointer of git-lfs: git lfs pull fetches the file'],
  ['empty.safetensors', '', 'an empty file'],
  ['short.safetensors', 'abc', 'one of 3 bytes'],
])('%s where weights were expected', async (name, content, what) => {
  const path = place(name, content)
  const message = await said(openCheckpoint(path))
  expect(message).toMatch(/^E_SAFETENSORS_HEADER_(TOO_LARGE|TOO_SMALL|LENGTH|JSON) /)
  expect(message.endsWith(` ${path}: expected a safetensors file, got ${what}`)).toBe(true)
})

test('a file whose first bytes are a length that would fit is told by what follows', async () => {
  const bitmap = place('large.bmp', bytes('BM\x40\0\0\0\0\0\0\0\x36\0\0\0', 0x4e0000))
  expect(await said(openCheckpoint(bitmap))).toBe(`E_SAFETENSORS_HEADER_JSON ${bitmap}: expected a safetensors file, got a BMP image`)
})

test.each([
  ['renamed.safetensors', '\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M'],
  ['new.safetensors', 'PK\x03\x04\0\0\x08\x08\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\x12\0archive/data.pkl'],
  ['weights.bin', '\x80\x02}q\0'],
])('pickled weights are never read, whatever their name: %s', async (name, head) => {
  expect(await said(openCheckpoint(place(name, bytes(head))))).toMatch(/^E_PICKLE .*expected safetensors, got pickled weights/)
})

test('lengths of headers are no signatures: files of ours that begin like others are read', async () => {
  for (const size of [0x0280, 0x1a08]) {
    const header = `{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}`.padEnd(size)
    const head = Buffer.alloc(8)
    head.writeBigUInt64LE(BigInt(size))
    const { tensors } = await openCheckpoint(place('ours.safetensors', Buffer.concat([head, Buffer.from(header), Buffer.alloc(4)])))
    expect([...tensors.keys()]).toEqual(['a'])
  }
})

test('a folder without a checkpoint says what it has instead', async () => {
  const expected = 'expected model.safetensors, model.safetensors.index.json or open_clip_model.safetensors, got'
  const at = (name: string, file?: string, content: Uint8Array | string = '') => {
    mkdirSync(join(folder, name))
    if (file !== undefined) writeFileSync(join(folder, name, file), content)
    return join(folder, name)
  }
  const cases: [string, string][] = [
    [at('gguf', 'model.gguf', bytes('GGUF')), 'model.gguf, weights in GGUF (llama.cpp)'],
    [at('pointers', 'pytorch_model.bin', POINTER), 'pytorch_model.bin, a pointer of git-lfs: git lfs pull fetches the file'],
    [at('pictures', 'x.png', bytes('\x89PNG')), 'none of them'],
    [at('nothing'), 'an empty folder'],
  ]
  for (const [path, got] of cases) expect(await said(openCheckpoint(path))).toBe(`E_NOT_FOUND ${path}: ${expected} ${got}`)
})

test('what is no folder of an adapter', async () => {
  const pointer = place('adapter_model.safetensors', POINTER)
  for (const open of [readAdapterJson, openPeftAdapter]) {
    expect(await said(open(pointer))).toBe(
      `E_ADAPTER ${pointer}: expected the folder of an adapter, got a file: ${kindOfBytes(Buffer.from(POINTER))}`,
    )
    expect(await said(open(join(folder, 'gone')))).toBe(
      `E_NOT_FOUND ${join(folder, 'gone')}: expected the folder of an adapter, got no such folder`,
    )
  }
})

test('where an image was expected', async () => {
  const of = (content: Uint8Array | string) => said(decodeImage({ bytes: Buffer.from(content), name: 'x.jpg' }))
  expect(await of(POINTER)).toBe('E_IMAGE x.jpg: expected an image, got a pointer of git-lfs: git lfs pull fetches the file')
  expect(await of('<html>404')).toBe('E_IMAGE x.jpg: expected an image, got an HTML page, such as a download that failed leaves')
  expect(await of(bytes('%PDF-1.7\n'))).toBe('E_IMAGE x.jpg: expected an image, got a PDF')
})
