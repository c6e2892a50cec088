// Puts the parts of echarts that the report uses into dist/report/echarts.js, so that the package depends on nothing for it.
import { writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const { version } = createRequire(import.meta.url)('echarts/package.json')
const file = join(root, 'dist/report/echarts.js')

const USED = `
  export { init } from 'echarts/core'
  import { use } from 'echarts/core'
  import { BarChart, LineChart, ScatterChart } from 'echarts/charts'
  import { GridComponent, MarkLineComponent } from 'echarts/components'
  import { LabelLayout } from 'echarts/features'
  import { SVGRenderer } from 'echarts/renderers'
  use([BarChart, LineChart, ScatterChart, GridComponent, MarkLineComponent, LabelLayout, SVGRenderer])`

const used = {
  name: 'used',
  setup(bundle) {
    bundle.onResolve({ filter: /^echarts$/ }, () => ({ path: 'used', namespace: 'used' }))
    bundle.onLoad({ filter: /.*/, namespace: 'used' }, () => ({ contents: USED, resolveDir: root }))
  },
}

const { outputFiles } = await build({
  entryPoints: [file],
  bundle: true,
  minify: true,
  write: false,
  format: 'cjs',
  platform: 'neutral',
  target: 'es2020',
  define: { 'process.env.NODE_ENV': '"production"' },
  legalComments: 'none',
  plugins: [used],
})
const notice = `/*! Holds parts of Apache ECharts ${version} and ZRender, (c) The Apache Software Foundation and Baidu Inc., licences Apache-2.0 and BSD-3-Clause: see NOTICE. */\n`
writeFileSync(file, notice + outputFiles[0].text)
