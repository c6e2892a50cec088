import { selectTasks } from '../../lib/continual/gaussian-selector.js'
import type { TaskDensity } from '../../lib/continual/task-density.js'
import { PAPER_CALIBRATION } from '../../lib/statistics/calibration.js'
import { Gaussian } from '../../lib/statistics/gaussian.js'
import { Moments } from '../../lib/statistics/moments.js'
import { Case, fixture } from '../fixture.js'

async function oracle() {
  const data = await Case.open(fixture('gaussian'))
  const d = 12
  const tasks: TaskDensity[] = []
  for (let t = 0; t < 3; t++) {
    const moments = new Moments(d)
    await moments.add(data.get('features').subarray(t * 400 * d, (t + 1) * 400 * d))
    tasks.push({ gaussian: await Gaussian.fit(moments, { shrinkage: 'none' }), calibration: PAPER_CALIBRATION })
  }
  return { data, tasks, queries: data.get('queries'), d }
}

test('the densest task and σ(s/D − 1), as PyTorch computes them', async () => {
  const { data, tasks, queries } = await oracle()
  const { task, weight, textWeight } = await selectTasks(queries, tasks)
  expect([...task]).toEqual([...data.get('full.task')])
  expect([...weight]).toEqual([...data.get('full.weight')])
  expect(textWeight).toEqual(weight)
})

test('is a function of each sample alone', async () => {
  const { tasks, queries, d } = await oracle()
  const whole = await selectTasks(queries, tasks)
  for (let i = 0; i < 20; i++) {
    const { task, weight } = await selectTasks(queries.subarray(i * d, (i + 1) * d), tasks)
    expect([task[0], weight[0]]).toEqual([whole.task[i], whole.weight[i]])
  }
})

test("the authors' vote and mean depend on the block, and keep the sample's own weight for its image", async () => {
  const { tasks, queries } = await oracle()
  const own = await selectTasks(queries, tasks)
  const voted = await selectTasks(queries, tasks, { vote: 'batch', textWeight: 'batch-mean', voteBatch: 8 })
  expect(voted.weight).toEqual(own.weight)
  for (const [first, last] of [
    [0, 8],
    [8, 16],
    [16, 20],
  ]) {
    const counts = [0, 0, 0]
    for (const t of own.task.subarray(first, last)) counts[t]++
    const winner = counts.indexOf(Math.max(...counts))
    expect([...voted.task.subarray(first, last)]).toEqual(new Array(last - first).fill(winner))
    const mean = own.weight.subarray(first, last).reduce((sum, w) => sum + w, 0) / (last - first)
    expect([...voted.textWeight.subarray(first, last)]).toEqual(new Array(last - first).fill(Math.fround(mean)))
  }
  expect([...voted.task]).not.toEqual([...own.task])
  await expect(selectTasks(queries, tasks, { voteBatch: 0 })).rejects.toMatchObject({ code: 'E_OPTION' })
})
