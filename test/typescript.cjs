// `node --require test/typescript.cjs file.ts` runs the TypeScript sources as jest does. For what a test needs in a
// process or a worker of its own: another CPU level, an exit in mid-step, two environments at once.
const { existsSync, readFileSync } = require('node:fs')
const Module = require('node:module')
const { dirname, resolve } = require('node:path')
const { transformSync } = require('@swc/core')

const options = {
  jsc: { target: 'es2022', parser: { syntax: 'typescript' } },
  module: { type: 'commonjs' },
  sourceMaps: 'inline',
}

const resolveFilename = Module._resolveFilename
Module._resolveFilename = function (request, parent, ...rest) {
  if (/^\.{1,2}\/.*\.js$/.test(request) && parent?.filename?.endsWith('.ts')) {
    const source = resolve(dirname(parent.filename), request.replace(/\.js$/, '.ts'))
    if (existsSync(source)) return source
  }
  return resolveFilename.call(this, request, parent, ...rest)
}

Module._extensions['.ts'] = (module, filename) => {
  module._compile(transformSync(readFileSync(filename, 'utf8'), { ...options, filename }).code, filename)
}
