// Tests run the TypeScript sources through swc; the native addon is the built one.
module.exports = {
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  transform: { '^.+\\.ts$': ['@swc/jest', { jsc: { target: 'es2022', parser: { syntax: 'typescript' } }, module: { type: 'commonjs' } }] },
  moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': '$1' },
  modulePathIgnorePatterns: ['<rootDir>/dist', '<rootDir>/build'],
  maxWorkers: 2,
  workerIdleMemoryLimit: 0, // a process for every file, since what the addon holds outlives a file
  workerGracefulExitTimeout: 60000,
  testTimeout: 600000, // a busy machine is not a failure
}
