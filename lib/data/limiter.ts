/** At most `width` tasks at once, started in the order they were given; after `close` the waiting ones never start. */
export class Limiter {
  readonly #waiting: (() => void)[] = []
  #running = 0
  #closed = false

  constructor(private readonly width: number) {}

  run<T>(task: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const start = () => {
        this.#running += 1
        task()
          .then(resolve, reject)
          .finally(() => {
            this.#running -= 1
            this.#next()
          })
      }
      this.#waiting.push(start)
      this.#next()
    })
  }

  close(): void {
    this.#closed = true
    this.#waiting.length = 0
  }

  #next(): void {
    while (!this.#closed && this.#running < this.width) {
      const start = this.#waiting.shift()
      if (start === undefined) return
      start()
    }
  }
}
