/** What a training run tells. */
import type { TrainEvent } from '../../lib/train/events.js'
import type { RunOptions, Trainer } from '../../lib/train/train.js'

/** All events of a run. @param stopAfter the step after which it is stopped by its signal; absent: it is not */
export async function eventsOf(trainer: Trainer, stopAfter?: number, run: RunOptions = {}): Promise<TrainEvent[]> {
  const abort = new AbortController()
  const events: TrainEvent[] = []
  for await (const event of trainer.run({ signal: abort.signal, ...run })) {
    events.push(event)
    if (event.type === 'step' && event.step === stopAfter) abort.abort()
  }
  return events
}

export const losses = (events: readonly TrainEvent[]) => events.flatMap((e) => (e.type === 'step' ? [e.loss] : []))
